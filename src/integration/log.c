/*-------------------------------------------------------------------------
 *
 * log.c
 *	  One line in the server's log, for what the DBA is told once: a circuit
 *	  that opens or closes.  Never statement and call stack with it: the line
 *	  is written by the courier's own work, and its SQL says nothing.  Holds
 *	  no lock and no state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(crm_integration_log);

/* crm.log_line(words text): LOG without statement and context. */
Datum
crm_integration_log(PG_FUNCTION_ARGS)
{
	char	   *words = text_to_cstring(PG_GETARG_TEXT_PP(0));

	ereport(LOG,
			(errhidestmt(true),
			 errhidecontext(true),
			 errmsg_internal("%s", words)));
	PG_RETURN_VOID();
}
