/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  A commit that queued work wakes the couriers of its database.
 *
 * crm.wake() notes the wish in the transaction; the call-back honours it
 * once the commit is done and drops it at abort.  A subtransaction that
 * rolls back takes its wish with it: what is kept is the outermost nesting
 * level that wished.  PREPARE TRANSACTION drops the wish: COMMIT PREPARED
 * runs in a session that knows nothing of it, and the couriers' fall-back
 * interval covers that case.
 *
 * crm.wake(true) says that the work goes before all other: the courier then
 * asks for such work even where an integration has enough to do.  While it
 * asks so, crm.urgent_only(true) tells the queue to give nothing else; the
 * end of the transaction takes that back.
 *
 * The call-backs run where an error would be a PANIC or a broken commit:
 * they must never throw, allocate or take a heavyweight lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "core/core.h"
#include "core/slots.h"
#include "core/stop.h"

/* A wish of this transaction: the outermost nesting level that has it, 0 for none. */
typedef struct Wish
{
	int			level;
} Wish;

static Wish wake_wish = {0};
static Wish urgent_wish = {0};
static Wish poke_wish = {0};
static bool urgent_only = false;

PG_FUNCTION_INFO_V1(crm_wake_sql);
PG_FUNCTION_INFO_V1(crm_poke_launcher_sql);
PG_FUNCTION_INFO_V1(crm_urgent_only_sql);

static void
wish(Wish *w)
{
	int			level = GetCurrentTransactionNestLevel();

	if (w->level == 0 || level < w->level)
		w->level = level;
}

static void
wish_at_subend(Wish *w, int level, bool committed)
{
	if (w->level >= level)
		w->level = committed ? level - 1 : 0;
}

void
crm_wake(void)
{
	wish(&wake_wish);
}

void
crm_poke_launcher_at_commit(void)
{
	wish(&poke_wish);
}

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (wake_wish.level > 0)
				CRM_STOP("queue: before commit");
			return;
		case XACT_EVENT_COMMIT:
			crm_clock_at_end(true);
			if (wake_wish.level > 0)
			{
				CRM_STOP("queue: after commit, before the latch");
				crm_slots_wake(MyDatabaseId, urgent_wish.level > 0);
				CRM_STOP("queue: after the latch");
			}
			if (poke_wish.level > 0)
				crm_slots_poke_launcher();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			crm_clock_at_end(false);
			break;
		default:
			return;
	}
	wake_wish.level = 0;
	urgent_wish.level = 0;
	poke_wish.level = 0;
	urgent_only = false;
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	wish_at_subend(&wake_wish, level, event == SUBXACT_EVENT_COMMIT_SUB);
	wish_at_subend(&urgent_wish, level, event == SUBXACT_EVENT_COMMIT_SUB);
	wish_at_subend(&poke_wish, level, event == SUBXACT_EVENT_COMMIT_SUB);
}

void
crm_wake_init(void)
{
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}

Datum
crm_wake_sql(PG_FUNCTION_ARGS)
{
	crm_wake();
	if (PG_GETARG_BOOL(0))
		wish(&urgent_wish);
	PG_RETURN_VOID();
}

bool
crm_urgent_only(void)
{
	return urgent_only;
}

Datum
crm_urgent_only_sql(PG_FUNCTION_ARGS)
{
	urgent_only = PG_GETARG_BOOL(0);
	PG_RETURN_VOID();
}

Datum
crm_poke_launcher_sql(PG_FUNCTION_ARGS)
{
	crm_poke_launcher_at_commit();
	PG_RETURN_VOID();
}
