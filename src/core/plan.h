/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  A statement of our own that is prepared once in a process and run often.
 *
 * The server revalidates a kept plan after every change of what it names, so
 * one that outlives DROP EXTENSION and CREATE EXTENSION finds the new objects.
 * SPI must be connected.  In a header, since each library has its own copy.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_PLAN_H
#define CRM_PLAN_H

#include "postgres.h"

#include "executor/spi.h"

/*
 * Runs a SELECT and returns the number of its rows, which SPI_tuptable holds.
 * place: one static variable for one text.
 */
static inline uint64
crm_plan_run(SPIPlanPtr *place, const char *query, int nargs, Oid *types, Datum *values)
{
	int			result;

	if (*place == NULL)
	{
		SPIPlanPtr	made = SPI_prepare(query, nargs, types);

		if (made == NULL || SPI_keepplan(made) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not prepare \"%s\": %s", query, SPI_result_code_string(SPI_result))));
		*place = made;
	}
	result = SPI_execute_plan(*place, values, NULL, false, 0);
	if (result != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("\"%s\" gave nothing to read: %s", query, SPI_result_code_string(result)),
				 errhint("It calls not the function that came with the extension: ALTER EXTENSION crm UPDATE; or restore it.")));
	return SPI_processed;
}

#endif							/* CRM_PLAN_H */
