/*-------------------------------------------------------------------------
 *
 * integration.h
 *	  What upper rooms may ask about integrations in C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_INTEGRATION_H
#define CRM_INTEGRATION_H

#include "postgres.h"

/* call.c: the integration whose kind function is running; false outside */
extern bool crm_kind_call(int64 *integration_id);

#endif							/* CRM_INTEGRATION_H */
