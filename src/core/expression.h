/*-------------------------------------------------------------------------
 *
 * expression.h
 *	  One checker of SQL that people keep in rows: conditions of rules,
 *	  predicates of indicators.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_EXPRESSION_H
#define CRM_EXPRESSION_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "catalog/pg_proc.h"
#include "nodes/primnodes.h"
#include "utils/relcache.h"

/* What may be wrong with a text. Where it has a name, that is told too. */
typedef enum CrmExpressionFault
{
	CRM_FAULT_STATEMENT,		/* no SELECT at all */
	CRM_FAULT_SEVERAL,			/* none, more than one, or a clause beside it */
	CRM_FAULT_LABEL,			/* name: AS name */
	CRM_FAULT_SUBSELECT,
	CRM_FAULT_PARAMETER,
	CRM_FAULT_WHOLE_ROW,		/* or a system column */
	CRM_FAULT_SERVER_VALUE,		/* current_date, current_user and the like */
	CRM_FAULT_CONSTRUCT,		/* whatever is not known to be harmless */
	CRM_FAULT_VOLATILE,
	CRM_FAULT_FUNCTION,			/* name, and its oid where it was looked up */
	CRM_FAULT_OPERATOR,			/* name */
	CRM_FAULT_TYPE,				/* name */
	CRM_FAULT_COLLATION			/* name */
} CrmExpressionFault;

/* What differs from room to room. */
typedef struct CrmExpressionRules
{
	/* raises the room's error; never returns */
	void		(*refuse) (CrmExpressionFault fault, const char *name, Oid function);
	/* raises an error for a literal that must not stand there */
	void		(*literal) (const char *value);
	/* whether a function of pg_catalog may be called */
	bool		(*function_allowed) (Oid function, Form_pg_proc proc);
	/* other functions that may be called */
	const Oid  *allowed;
	int			n_allowed;
	/* filled by crm_expression_read(): the columns of the relation */
	TupleDesc	columns;
} CrmExpressionRules;

/* The rights that are given back after something was done as crm_eval. */
typedef struct CrmEvalRights
{
	Oid			user;
	int			context;
	bool		read_only;
	SubTransactionId judging;	/* what crm_judging() looked at before */
	LocalTransactionId judging_of;
} CrmEvalRights;

extern void crm_eval_begin(CrmEvalRights *rights);
extern void crm_eval_end(const CrmEvalRights *rights);

/* Whether the backend is between the two: what it reads, it reads for the plant. */
extern bool crm_judging(void);

extern Node *crm_expression_read(const char *text, Relation rel, Oid type, const char *name,
								 const CrmExpressionRules *rules);
extern Expr *crm_expression_plan(Node *expr);

/*
 * An expression over the columns of a relation that is pasted into a query of
 * ours: as PostgreSQL writes it down itself.  The caller may read the relation.
 */
extern char *crm_expression_written(Oid relation, const char *hint, const char *text, Oid type, const char *name,
									const char *context, const CrmExpressionRules *rules);

/* A boolean expression over a row of a table of ours that is kept in a row. */
typedef struct CrmRowExpression
{
	Oid			table;
	Oid			functions;		/* gives the oids of other functions that may be called */
	const char *of;				/* "a rule": whose it is */
	const char *name;			/* as for crm_expression_read() */
	const char *hint;			/* where the fault has none of its own */
	void		(*refuse) (CrmExpressionFault fault, const char *name, Oid function);
} CrmRowExpression;

extern Node *crm_expression_of_row(const CrmRowExpression *row, const char *what, const char *text);

/* For rules of messages and conditions of stages alike: literals that are refused, functions that may be called. */
extern void crm_expression_refuse_moment(const char *value);
extern bool crm_expression_harmless(Oid function, Form_pg_proc proc);

#endif							/* CRM_EXPRESSION_H */
