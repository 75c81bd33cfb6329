/*-------------------------------------------------------------------------
 *
 * message.h
 *	  What the files of this room share: expressions of rules.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_MESSAGE_H
#define CRM_MESSAGE_H

#include "postgres.h"

#include "nodes/primnodes.h"

extern Expr *crm_message_expression(const char *what, const char *text);

#endif							/* CRM_MESSAGE_H */
