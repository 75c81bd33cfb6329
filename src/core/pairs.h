/*-------------------------------------------------------------------------
 *
 * pairs.h
 *	  Old and new rows of an UPDATE, side by side, in a statement trigger.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_CORE_PAIRS_H
#define CRM_CORE_PAIRS_H

#include "postgres.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"

typedef void (*CrmPairFn) (TupleTableSlot *before, TupleTableSlot *after, void *arg);

/*
 * Calls fn for every row that the UPDATE wrote. The trigger is AFTER UPDATE,
 * FOR EACH STATEMENT, with OLD TABLE and NEW TABLE; another use is an error.
 */
extern void crm_walk_pairs(FunctionCallInfo fcinfo, const char *function, CrmPairFn fn, void *arg);

/* Column number by name, of this very type; an error that names function where it is not there. */
extern AttrNumber crm_trigger_column(Relation rel, const char *function, const char *name, Oid type);

/* Calls crm.NAME, which takes nargs arguments of these types and returns nothing of interest. */
extern void crm_call_sql(const char *name, int nargs, const Oid *types, Datum *values);

#endif							/* CRM_CORE_PAIRS_H */
