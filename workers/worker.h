/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  What courier and listener share: how such a process starts, how it makes
 *	  a transaction, how it looks around between two turns, how it leaves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_WORKER_H
#define CRM_WORKER_H

#include "postgres.h"

#include "core/slots.h"

#define CRM_FAILURE_LEN 512

/* why a transaction did not commit; plain memory, outlives the abort */
typedef struct CrmFailure
{
	int			sqlerrcode;
	char		sqlstate[6];
	char		message[CRM_FAILURE_LEN];
	bool		transient;		/* may pass by itself: try the same again */
} CrmFailure;

/*
 * The body of one transaction.  SPI is connected, a snapshot is active.  It may
 * throw.  What shall outlive the transaction goes to memory of the caller's.
 */
typedef void (*CrmWork) (void *arg);

extern const CrmWorkerApi *crm_worker;
extern CrmWorkerSlot *crm_worker_slot;

/*
 * First call of a worker's main function: signals, slot, connection as
 * crm_courier, settings.  Does not return where the extension is absent, has
 * another version than the library, or the worker was asked to leave.
 * activity: "crm courier" or "crm listener".
 */
extern void crm_worker_start(Datum main_arg, const char *activity);

/* From here on SIGTERM is a request (crm_worker_leaving), not a FATAL. */
extern void crm_worker_ready(void);

/*
 * One transaction: true when it has committed.  On false *failure is filled,
 * everything is cleaned up and one line is in the log (bounded in number).
 * activity is a constant word for pg_stat_activity.  limit_ms cancels it.
 * Does not return where the extension is gone: the worker leaves.
 */
extern bool crm_worker_run(const char *activity, int limit_ms, CrmWork work, void *arg,
						   CrmFailure *failure);

/*
 * Call in every turn: interrupts, SIGHUP, postmaster death, memory of the
 * turn.  True when the latch had been set.
 */
extern bool crm_worker_turn(void);

/* 0 = stay; else the process should end within that many milliseconds (>= 1) */
extern int	crm_worker_leaving(void);

/* End quietly.  The slot keeps detail for crm.health. */
extern void crm_worker_leave(CrmWorkerExit why, const char *detail) pg_attribute_noreturn();

/* Reset in every crm_worker_turn: for what lives between two turns at most. */
extern MemoryContext crm_worker_context;

/* CLOCK_MONOTONIC, milliseconds and microseconds */
extern int64 crm_worker_ms(void);
extern int64 crm_worker_us(void);

/* entry points */
extern void crm_launcher_main(Datum main_arg);
extern void crm_courier_main(Datum main_arg);
extern void crm_listener_main(Datum main_arg);

#endif							/* CRM_WORKER_H */
