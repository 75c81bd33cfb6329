/*-------------------------------------------------------------------------
 *
 * slots.h
 *	  Shared memory of the workers: who serves which database.
 *
 * A slot is keyed by (database, kind, number).  It is made by the launcher,
 * filled by the worker that it started, emptied to "resting" when that worker
 * is gone, and freed by the launcher when the database is not wanted any more.
 * So the slots are also the launcher's memory: it can die and come back.
 *
 * Shared memory holds plain values only: no pointers, no descriptors, since a
 * crash restart brings new processes and new shared memory (traps.md, 1).
 *
 * crm_shared->lock guards every field except those that say "atomic" or
 * "unlocked".
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_SLOTS_H
#define CRM_SLOTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "core/core.h"

#define CRM_SLOTS			64
#define CRM_HOLDS			32
#define CRM_COURIERS_MAX	8	/* of one database */
#define CRM_SETTING_LEN		128
#define CRM_DETAIL_LEN		256

typedef enum CrmWorkerKind
{
	CRM_WORKER_COURIER = 0,
	CRM_WORKER_LISTENER = 1
} CrmWorkerKind;

typedef enum CrmWorkerState
{
	CRM_WORKER_FREE = 0,		/* nobody's */
	CRM_WORKER_STARTING,		/* registered with the postmaster */
	CRM_WORKER_CONNECTING,		/* the process lives, not yet at work */
	CRM_WORKER_IDLE,			/* waits, nothing under way */
	CRM_WORKER_BUSY,			/* bytes move */
	CRM_WORKER_TRANSACTION,		/* in a transaction of its own */
	CRM_WORKER_LEAVING,			/* asked to leave, on its way out */
	CRM_WORKER_RESTING			/* no process; detail says why */
} CrmWorkerState;

typedef enum CrmWorkerLeave
{
	CRM_LEAVE_NO = 0,
	CRM_LEAVE_SOON,				/* what is under way may finish, up to 1 s */
	CRM_LEAVE_NOW				/* the database is about to go */
} CrmWorkerLeave;

/* why a worker left, for the launcher's back-off */
typedef enum CrmWorkerExit
{
	CRM_EXIT_CRASH = 0,			/* it did not say: an error */
	CRM_EXIT_ASKED,				/* it was asked to */
	CRM_EXIT_NOT_HERE			/* nothing to serve: no extension, wrong version; wait for a poke */
} CrmWorkerExit;

typedef struct CrmWorkerSlot
{
	Oid			database;		/* unlocked reads by the wake-up */
	CrmWorkerKind kind;
	int			number;			/* 0, more when a database has several */
	CrmWorkerState state;		/* unlocked writes by the owner once it runs */
	int			pid;			/* 0 = no process */
	int			procno;			/* index of its PGPROC, -1 = none; unlocked reads by the wake-up */
	Oid			role;			/* whom it connects as */
	int64		generation;		/* of the courier's start; unlocked */
	CrmWorkerLeave leave;		/* unlocked reads by the owner */
	CrmWorkerExit exit;
	TimestampTz started;		/* of the process */
	TimestampTz since;			/* of the state; unlocked */
	TimestampTz not_before;		/* launcher: next start, not earlier */
	int			failures;		/* launcher: starts in a row that failed */
	int			in_flight;		/* unlocked */
	pg_atomic_uint32 wakes;		/* atomic: commits that queued work */
	pg_atomic_uint32 urgent;	/* atomic: those of them whose work goes before all other */
	char		setting[CRM_SETTING_LEN];	/* listener: address:port; courier: of how many it is
											 * one, and the database's crm.mode */
	char		detail[CRM_DETAIL_LEN];
} CrmWorkerSlot;

/* a database whose workers must stay away until this backend's transaction ends */
typedef struct CrmHold
{
	Oid			database;
	int			pid;			/* 0 = free */
} CrmHold;

typedef struct CrmShared
{
	LWLock	   *lock;
	ConditionVariable gone;		/* a worker has left the process array */
	int			launcher_pid;
	int			launcher_procno;	/* -1 = none; unlocked reads */
	TimestampTz launcher_started;
	TimestampTz out_of_slots;	/* 0 = no; since when max_worker_processes is used up */
	pg_atomic_uint32 pokes;		/* atomic: look at the catalogues again */
	CrmHold		hold[CRM_HOLDS];
	CrmWorkerSlot slot[CRM_SLOTS];
} CrmShared;

/* what library crm_worker gets by load_external_function("crm", "crm_worker_api") */
typedef struct CrmWorkerApi
{
	const char *version;		/* of the library */
	CrmShared  *shared;			/* NULL: not preloaded */
	CrmWorkerSlot *(*attach) (int index);
	void		(*say) (CrmWorkerSlot *slot, CrmWorkerState state, const char *detail);
	void		(*leave) (CrmWorkerSlot *slot, CrmWorkerLeave how);
	bool		(*held) (Oid database);
	void		(*poke_launcher) (void);
	const int  *couriers;		/* settings of guc.c */
	const int  *claim_timeout_ms;
	const int  *fallback_ms;
	const int  *mode_setting;	/* crm.mode: lowers, at once */
	CrmMode		(*mode) (void); /* what may leave now; in a transaction */
} CrmWorkerApi;

typedef const CrmWorkerApi *(*CrmWorkerApiFunction) (void);

extern const CrmWorkerApi *crm_worker_api(void);

/* called by module.c */
extern void crm_slots_request(void);
extern void crm_slots_startup(void);
extern void crm_utility_init(void);

/* called by wake.c at commit; never throws */
extern void crm_slots_wake(Oid database, bool urgent);
extern void crm_slots_poke_launcher(void);

/* called by utility.c */
extern bool crm_slots_hold(Oid database, CrmWorkerLeave how, int wait_ms);
extern void crm_slots_release(void);
extern bool crm_slots_any(Oid database);
extern bool crm_slots_is_worker(int pid);

#endif							/* CRM_SLOTS_H */
