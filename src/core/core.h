/*-------------------------------------------------------------------------
 *
 * core.h
 *	  What every room may ask of the ground floor: mode, guard, clock, wake.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_CORE_H
#define CRM_CORE_H

#include "postgres.h"
#include "utils/timestamp.h"

/* What may leave this database. Ordered: a setting may only lower it. */
typedef enum CrmMode
{
	CRM_OFF,					/* nothing leaves */
	CRM_SANDBOX,				/* everything goes to named test recipients */
	CRM_LIVE
} CrmMode;

/* activation.c */
extern CrmMode crm_mode(void);
extern bool crm_guard(void);

/* clock.c */
extern TimestampTz crm_now(void);
extern TimestampTz crm_clock(void);
extern int64 crm_monotonic_ms(void);
extern Size crm_clock_shmem_size(void);
extern void crm_clock_shmem_startup(void);
extern void crm_clock_at_end(bool committed);

/* wake.c */
extern void crm_wake(void);
extern bool crm_urgent_only(void);
extern void crm_poke_launcher_at_commit(void);
extern void crm_wake_init(void);

/* guc.c */
extern int	crm_guc_mode;
extern int	crm_guc_couriers;
extern int	crm_guc_fallback_ms;
extern int	crm_guc_claim_timeout_ms;
extern char *crm_guc_time_zone;
extern int	crm_guc_control_period;
extern int	crm_guc_min_satellites;
extern void crm_guc_init(void);

/* module.c: true in a process of a server that preloaded the library */
extern bool crm_preloaded;

/* table.c */
extern Oid	crm_table(const char *name);
extern bool crm_rewriting(void);
extern bool crm_rules_held(void);

#endif							/* CRM_CORE_H */
