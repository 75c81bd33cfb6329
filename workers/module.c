/*-------------------------------------------------------------------------
 *
 * module.c
 *	  The mark by which PostgreSQL knows library crm_worker for one of its own.
 *
 * Loading the library must do nothing: a backend loads it for
 * crm.integration_test(), and libcurl is initialised at its first use only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;
