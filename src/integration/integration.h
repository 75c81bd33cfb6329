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

/* url.c: one name or value of a form, palloc'd; any octets may come out */
extern char *crm_form_decode(const char *from, int length, int *decoded);

/* url.c: octets of a stranger as text; never an error */
extern text *crm_text_of_stranger(const char *bytes, int length);

#endif							/* CRM_INTEGRATION_H */
