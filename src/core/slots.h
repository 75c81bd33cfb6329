/*-------------------------------------------------------------------------
 *
 * slots.h
 *	  Shared memory of the workers: who runs where, and how to wake him.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_SLOTS_H
#define CRM_SLOTS_H

#include "postgres.h"

extern void crm_slots_request(void);
extern void crm_slots_startup(void);
extern void crm_slots_wake(Oid dboid);
extern void crm_slots_poke_launcher(void);
extern void crm_utility_init(void);

#endif							/* CRM_SLOTS_H */
