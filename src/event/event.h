/*-------------------------------------------------------------------------
 *
 * event.h
 *	  What upper rooms may ask of crm.event's statement triggers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_EVENT_H
#define CRM_EVENT_H

#include "postgres.h"

#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"

/* The new events of a statement, read from the start. */
typedef struct CrmEventScan
{
	Tuplestorestate *store;
	TupleTableSlot *slot;
	AttrNumber	kind;
	AttrNumber	object_kind;
	AttrNumber	id;
} CrmEventScan;

extern TriggerData *crm_event_trigger(FunctionCallInfo fcinfo, const char *name);
extern void crm_event_scan_begin(CrmEventScan *scan, TriggerData *data);
extern bool crm_event_scan_next(CrmEventScan *scan);
extern void crm_event_scan_again(CrmEventScan *scan);
extern void crm_event_scan_end(CrmEventScan *scan);

#endif							/* CRM_EVENT_H */
