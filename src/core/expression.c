/*-------------------------------------------------------------------------
 *
 * expression.c
 *	  Reads ONE expression that somebody wrote into a row, and checks it.
 *
 * The text is parsed in the grammar's expression mode, so that a second
 * statement, a FROM or an ORDER BY cannot ride along.  Then it is looked at
 * twice.
 *
 * Before analysis every name in it: analysis itself runs code.  It calls the
 * input function of a type for each literal that becomes that type, be it by
 * a cast, by a function whose name is a type's, or because a function or an
 * operator takes such an argument; where the type is an array, a range or a
 * row over somebody's domain, the domain's CHECK runs.  So a type, operator
 * or collation must be PostgreSQL's own, and a function too, or one of those
 * that the room names; what is written with another schema is not even looked
 * up.
 *
 * After analysis every node: only kinds of nodes that are known, functions by
 * the room's word, operators and types by their numbers.  An operator counts
 * by itself and not by its function: the planner may put its negator in its
 * place, which its owner chose.
 *
 * Both, and planning, happen as crm_eval, in a security-restricted and
 * read-only operation and under a search path of our own, whoever calls: what
 * slips through all of this has the rights of nobody.
 *
 * Must never plan or run an expression that was not checked.
 *
 * Lock: the caller holds one on the relation; there is no state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "core/expression.h"

#define OWN_PATH "pg_catalog, pg_temp"

static Node *parsed_expression(const char *text, const CrmExpressionRules *rules);
static Node *analysed_expression(const char *text, Relation rel, Oid type, const char *name,
								 const CrmExpressionRules *rules);
static bool raw_walker(Node *node, const CrmExpressionRules *rules);
static bool walker(Node *node, const CrmExpressionRules *rules);
static bool function_walker(Oid function, void *context);
static void check_function_name(List *names, const CrmExpressionRules *rules);
static void check_type_name(TypeName *name, const CrmExpressionRules *rules);
static void check_columns(const CrmExpressionRules *rules);
static void check_operator(Oid operator, const CrmExpressionRules *rules);
static void check_configuration(Const *constant, const CrmExpressionRules *rules);
static void check_type(Oid type, const CrmExpressionRules *rules);
static void check_collation(Oid collation, const CrmExpressionRules *rules);
static bool of_postgres(List *names);
static bool type_allowed(Oid type);
static bool type_of_owner(Oid type);
static bool function_named(Oid function, const CrmExpressionRules *rules);

/* Since which subtransaction an expression is judged; an error that skips the end takes that with it. */
static SubTransactionId judging = InvalidSubTransactionId;
static LocalTransactionId judging_of = InvalidLocalTransactionId;

bool
crm_judging(void)
{
	return judging != InvalidSubTransactionId && judging_of == MyProc->lxid && SubTransactionIsActive(judging);
}

/*
 * From here to crm_eval_end() the backend has the rights of crm_eval.  After
 * an error the caller must call the latter as well (PG_FINALLY), or leave it
 * to the end of a (sub)transaction.
 */
void
crm_eval_begin(CrmEvalRights *rights)
{
	Oid			role = get_role_oid("crm_eval", true);

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"crm_eval\" does not exist"),
				 errhint("Expressions in rows run with its rights and no others. CREATE ROLE crm_eval NOLOGIN; and SELECT crm.activate(...) again.")));
	GetUserIdAndSecContext(&rights->user, &rights->context);
	rights->read_only = XactReadOnly;
	SetUserIdAndSecContext(role, rights->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	XactReadOnly = true;
	rights->judging = judging;
	rights->judging_of = judging_of;
	judging = GetCurrentSubTransactionId();
	judging_of = MyProc->lxid;
}

void
crm_eval_end(const CrmEvalRights *rights)
{
	judging = rights->judging;
	judging_of = rights->judging_of;
	XactReadOnly = rights->read_only;
	SetUserIdAndSecContext(rights->user, rights->context);
}

/*
 * Literals that would freeze the moment at which they are read.
 */
void
crm_expression_refuse_moment(const char *value)
{
	static const char *const moments[] = {"now", "today", "tomorrow", "yesterday"};

	while (isspace((unsigned char) *value))
		value++;
	for (int i = 0; i < lengthof(moments); i++)
	{
		int			length = strlen(moments[i]);

		if (pg_strncasecmp(value, moments[i], length) == 0 && !isalnum((unsigned char) value[length]))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the literal '%s' would mean the moment at which the rule is read", value),
					 errhint("Write crm.now(), or compare with the columns at and known_at.")));
	}
}

/*
 * Of PostgreSQL's own functions those in C that are immutable, but for a few
 * that eat memory or time; of the stable ones those that only look at the
 * session's time zone and formats.
 */
bool
crm_expression_harmless(Oid function, Form_pg_proc proc)
{
	static const char *const hungry[] = {
		"repeat", "lpad", "rpad", "array_fill", "factorial", "numeric_fac", NULL
	};
	static const char *const harmless[] = {
		"to_char", "to_date", "to_timestamp", "to_json", "to_jsonb", "jsonb_build_object", "jsonb_build_array",
		"concat", "concat_ws", "format", "textanycat", "anytextcat", "array_to_string", "array_in", "array_out",
		"age", "timezone", "record_out", "isfinite", NULL
	};
	static const char *const of_time[] = {"date", "time", "interval", "extract", NULL};
	const char *name = NameStr(proc->proname);

	if (proc->prolang != INTERNALlanguageId || strncmp(name, "pg_", 3) == 0)
		return false;
	if (proc->provolatile == PROVOLATILE_IMMUTABLE)
	{
		for (int i = 0; hungry[i] != NULL; i++)
		{
			if (strcmp(name, hungry[i]) == 0)
				return false;
		}
		return true;
	}
	for (int i = 0; harmless[i] != NULL; i++)
	{
		if (strcmp(name, harmless[i]) == 0)
			return true;
	}
	for (int i = 0; of_time[i] != NULL; i++)
	{
		if (strncmp(name, of_time[i], strlen(of_time[i])) == 0)
			return true;
	}
	return false;
}

/*
 * The analysed and checked expression over the columns of a relation, of the
 * type asked for.  name: what an error about the type calls it.
 */
Node	   *
crm_expression_read(const char *text, Relation rel, Oid type, const char *name, const CrmExpressionRules *rules)
{
	CrmEvalRights rights;
	Node	   *volatile result = NULL;
	int			nest = NewGUCNestLevel();

	/* after an error it is the (sub)transaction's end that takes this back */
	(void) set_config_option("search_path", OWN_PATH, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	crm_eval_begin(&rights);
	PG_TRY();
	{
		result = analysed_expression(text, rel, type, name, rules);
	}
	PG_FINALLY();
	{
		crm_eval_end(&rights);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, nest);
	return result;
}

/*
 * Makes a checked expression ready for evaluation.  Constants are folded and
 * functions in SQL put in line, which is running them.
 */
Expr	   *
crm_expression_plan(Node *expr)
{
	CrmEvalRights rights;
	Expr	   *volatile result = NULL;

	crm_eval_begin(&rights);
	PG_TRY();
	{
		result = expression_planner((Expr *) expr);
	}
	PG_FINALLY();
	{
		crm_eval_end(&rights);
	}
	PG_END_TRY();
	return result;
}

static Node *
analysed_expression(const char *text, Relation rel, Oid type, const char *name, const CrmExpressionRules *room)
{
	CrmExpressionRules with_columns = *room;
	const CrmExpressionRules *rules = &with_columns;
	Node	   *raw = parsed_expression(text, rules);
	ParseState *pstate;
	ParseNamespaceItem *item;
	Node	   *expr;
	Oid			found;

	with_columns.columns = RelationGetDescr(rel);
	check_columns(rules);
	(void) raw_walker(raw, rules);

	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = text;

	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, true);
	addNSItemToQuery(pstate, item, true, true, true);
	expr = transformExpr(pstate, raw, EXPR_KIND_WHERE);
	found = exprType(expr);
	if (type == BOOLOID)
		expr = coerce_to_boolean(pstate, expr, name);
	else
		expr = coerce_to_target_type(pstate, expr, found, type, -1, COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
	if (expr == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the expression is of type %s, not %s", format_type_be(found), format_type_be(type)),
				 errhint("Convert it: (...)::%s.", format_type_be(type))));
	assign_expr_collations(pstate, expr);
	(void) walker(expr, rules);
	if (contain_volatile_functions(expr))
		rules->refuse(CRM_FAULT_VOLATILE, NULL, InvalidOid);
	free_parsestate(pstate);
	return expr;
}

/*
 * The raw tree of the one expression.
 */
static Node *
parsed_expression(const char *text, const CrmExpressionRules *rules)
{
	List	   *parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select;
	ResTarget  *target;

	if (list_length(parsed) != 1 || !IsA(linitial_node(RawStmt, parsed)->stmt, SelectStmt))
		rules->refuse(CRM_FAULT_STATEMENT, NULL, InvalidOid);
	select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	if (list_length(select->targetList) != 1 || select->distinctClause != NIL || select->intoClause != NULL ||
		select->fromClause != NIL || select->whereClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL || select->valuesLists != NIL ||
		select->sortClause != NIL || select->limitOffset != NULL || select->limitCount != NULL ||
		select->lockingClause != NIL || select->withClause != NULL || select->op != SETOP_NONE)
		rules->refuse(CRM_FAULT_SEVERAL, NULL, InvalidOid);
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL || target->indirection != NIL)
		rules->refuse(CRM_FAULT_LABEL, target->name ? target->name : "", InvalidOid);
	return target->val;
}

/*
 * What must be seen before analysis.
 */
static bool
raw_walker(Node *node, const CrmExpressionRules *rules)
{
	ListCell   *cell;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_SubLink:
		case T_SelectStmt:
			rules->refuse(CRM_FAULT_SUBSELECT, NULL, InvalidOid);
			break;
		case T_ParamRef:
			rules->refuse(CRM_FAULT_PARAMETER, NULL, InvalidOid);
			break;
		case T_SetToDefault:
			rules->refuse(CRM_FAULT_CONSTRUCT, "DEFAULT", InvalidOid);
			break;
		case T_XmlExpr:
		case T_XmlSerialize:
		case T_SortBy:
			rules->refuse(CRM_FAULT_CONSTRUCT, NULL, InvalidOid);
			break;
		case T_A_Const:
			if (!((A_Const *) node)->isnull && IsA(&((A_Const *) node)->val, String))
				rules->literal(strVal(&((A_Const *) node)->val));
			return false;
		case T_ColumnRef:
			/* analysis would take the star of SELECT * for a name, and crash */
			if (IsA(linitial(((ColumnRef *) node)->fields), A_Star))
				rules->refuse(CRM_FAULT_SEVERAL, NULL, InvalidOid);
			break;
		case T_A_Expr:
			if (!of_postgres(((A_Expr *) node)->name))
				rules->refuse(CRM_FAULT_OPERATOR, NameListToString(((A_Expr *) node)->name), InvalidOid);
			break;
		case T_FuncCall:
			check_function_name(((FuncCall *) node)->funcname, rules);
			break;
		case T_A_Indirection:
			/* (x).name may call name(x), or make an x of the type name */
			foreach(cell, ((A_Indirection *) node)->indirection)
			{
				if (IsA(lfirst(cell), String))
					check_function_name(list_make1(lfirst(cell)), rules);
			}
			break;
		case T_TypeName:
			check_type_name((TypeName *) node, rules);
			break;
		case T_CollateClause:
			if (!of_postgres(((CollateClause *) node)->collname))
				rules->refuse(CRM_FAULT_COLLATION, NameListToString(((CollateClause *) node)->collname), InvalidOid);
			break;
		default:
			break;
	}
	return raw_expression_tree_walker(node, raw_walker, (void *) rules);
}

/* Whether a name is looked up in pg_catalog, since OWN_PATH holds or by what is written. */
static bool
of_postgres(List *names)
{
	return list_length(names) == 1 ||
		(list_length(names) == 2 && strcmp(strVal(linitial(names)), "pg_catalog") == 0);
}

/*
 * A call.  Of other schemas only functions that the room names; and where
 * another function of the same name waits there, with arguments of types that
 * somebody made, none is called: analysis would make such arguments.
 */
static void
check_function_name(List *names, const CrmExpressionRules *rules)
{
	bool		named = false;
	Type		type;

	if (of_postgres(names))
	{
		/* the name of a type makes that type of a literal */
		type = LookupTypeNameExtended(NULL, makeTypeNameFromNameList(names), NULL, false, true);
		if (type != NULL)
		{
			Oid			oid = typeTypeId(type);

			ReleaseSysCache(type);
			/* xml() and regclass() are functions too: those are seen after analysis */
			if (oid >= FirstUnpinnedObjectId)
				rules->refuse(CRM_FAULT_TYPE, NameListToString(names), InvalidOid);
		}
		return;
	}

	if (list_length(names) == 2)
	{
		for (int i = 0; i < rules->n_allowed && !named; i++)
		{
			char	   *function = get_func_name(rules->allowed[i]);
			char	   *schema = get_namespace_name(get_func_namespace(rules->allowed[i]));

			named = function != NULL && strcmp(function, strVal(lsecond(names))) == 0 &&
				schema != NULL && strcmp(schema, strVal(linitial(names))) == 0;
		}
	}
	if (named)
	{
		FuncCandidateList candidates = FuncnameGetCandidates(names, -1, NIL, false, false, false, true);

		for (FuncCandidateList one = candidates; one != NULL; one = one->next)
		{
			for (int i = 0; i < one->nargs && !function_named(one->oid, rules); i++)
				named = named && one->args[i] < FirstUnpinnedObjectId;
		}
	}
	if (!named)
		rules->refuse(CRM_FAULT_FUNCTION, NameListToString(names), InvalidOid);
}

static void
check_type_name(TypeName *name, const CrmExpressionRules *rules)
{
	bool		allowed = name->names == NIL ? type_allowed(name->typeOid) : of_postgres(name->names);

	if (allowed && name->names != NIL && !name->pct_type)
	{
		Type		type = LookupTypeName(NULL, name, NULL, true);

		if (type == NULL)
			return;				/* analysis says that there is none */
		allowed = type_allowed(typeTypeId(type));
		ReleaseSysCache(type);
	}
	if (!allowed || name->setof || name->pct_type)
		rules->refuse(CRM_FAULT_TYPE, TypeNameToString(name), InvalidOid);
}

/*
 * What is looked at after analysis: only nodes that stand here are taken.
 */
static bool
walker(Node *node, const CrmExpressionRules *rules)
{
	ListCell   *cell;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, function_walker, (void *) rules))
		return true;
	switch (nodeTag(node))
	{
		case T_List:
		case T_CaseWhen:
			return expression_tree_walker(node, walker, (void *) rules);
		case T_Var:
			/* a column has whatever type its table gave it: reading it runs nothing */
			if (((Var *) node)->varattno <= 0)
				rules->refuse(CRM_FAULT_WHOLE_ROW, NULL, InvalidOid);
			return false;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			check_operator(((OpExpr *) node)->opno, rules);
			break;
		case T_ScalarArrayOpExpr:
			check_operator(((ScalarArrayOpExpr *) node)->opno, rules);
			break;
		case T_RowCompareExpr:
			foreach(cell, ((RowCompareExpr *) node)->opnos)
				check_operator(lfirst_oid(cell), rules);
			break;
		case T_CollateExpr:
			check_collation(((CollateExpr *) node)->collOid, rules);
			break;
		case T_SQLValueFunction:
			rules->refuse(CRM_FAULT_SERVER_VALUE, NULL, InvalidOid);
			break;
		case T_SubLink:
		case T_SubPlan:
			rules->refuse(CRM_FAULT_SUBSELECT, NULL, InvalidOid);
			break;
		case T_Param:
			rules->refuse(CRM_FAULT_PARAMETER, NULL, InvalidOid);
			break;
		case T_Const:
			if (((Const *) node)->consttype == REGCONFIGOID)
			{
				check_configuration((Const *) node, rules);
				return false;
			}
			break;
		case T_FuncExpr:
		case T_NamedArgExpr:
		case T_BoolExpr:
		case T_SubscriptingRef:
		case T_FieldSelect:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_CaseExpr:
		case T_CaseTestExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
			break;
		default:
			rules->refuse(CRM_FAULT_CONSTRUCT, NULL, InvalidOid);
	}
	check_type(exprType(node), rules);
	return expression_tree_walker(node, walker, (void *) rules);
}

static bool
function_walker(Oid function, void *context)
{
	const CrmExpressionRules *rules = (const CrmExpressionRules *) context;
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		allowed;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %u was dropped while an expression was read", function),
				 errhint("Repeat the statement.")));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	name = pstrdup(NameStr(proc->proname));
	allowed = proc->prokind == PROKIND_FUNCTION && !proc->proretset && proc->provolatile != PROVOLATILE_VOLATILE &&
		(function_named(function, rules) ||
		 (function < FirstUnpinnedObjectId && proc->pronamespace == PG_CATALOG_NAMESPACE &&
		  rules->function_allowed(function, proc)));
	ReleaseSysCache(tuple);
	if (!allowed)
		rules->refuse(CRM_FAULT_FUNCTION, name, function);
	return false;
}

static bool
function_named(Oid function, const CrmExpressionRules *rules)
{
	for (int i = 0; i < rules->n_allowed; i++)
	{
		if (rules->allowed[i] == function)
			return true;
	}
	return false;
}

/*
 * A literal beside a column gets the column's type.  So a relation whose
 * columns have types that somebody made is not read at all.
 */
static void
check_columns(const CrmExpressionRules *rules)
{
	for (int i = 0; i < rules->columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(rules->columns, i);

		if (!column->attisdropped && column->atttypid >= FirstUnpinnedObjectId && !type_of_owner(column->atttypid))
			rules->refuse(CRM_FAULT_TYPE, format_type_be(column->atttypid), InvalidOid);
	}
}

static void
check_operator(Oid operator, const CrmExpressionRules *rules)
{
	if (operator >= FirstUnpinnedObjectId)
		rules->refuse(CRM_FAULT_OPERATOR, get_opname(operator), InvalidOid);
}

static void
check_collation(Oid collation, const CrmExpressionRules *rules)
{
	HeapTuple	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Oid			schema = InvalidOid;

	/* those of the operating system have numbers of initdb or later */
	if (HeapTupleIsValid(tuple))
	{
		schema = ((Form_pg_collation) GETSTRUCT(tuple))->collnamespace;
		ReleaseSysCache(tuple);
	}
	if (schema != PG_CATALOG_NAMESPACE)
		rules->refuse(CRM_FAULT_COLLATION, get_collation_name(collation), InvalidOid);
}

/*
 * A configuration of full text search, written down: those that came with
 * PostgreSQL.  A value that becomes one is refused like other such types.
 */
static void
check_configuration(Const *constant, const CrmExpressionRules *rules)
{
	Oid			oid = constant->constisnull ? InvalidOid : DatumGetObjectId(constant->constvalue);
	HeapTuple	tuple = SearchSysCache1(TSCONFIGOID, ObjectIdGetDatum(oid));
	Oid			schema = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		schema = ((Form_pg_ts_config) GETSTRUCT(tuple))->cfgnamespace;
		ReleaseSysCache(tuple);
	}
	if (!constant->constisnull && schema != PG_CATALOG_NAMESPACE)
		rules->refuse(CRM_FAULT_TYPE, "regconfig", InvalidOid);
}

static void
check_type(Oid type, const CrmExpressionRules *rules)
{
	bool		allowed = type_allowed(type) && type != REGCONFIGOID;

	/* a row written down here, a literal without a type: their parts are looked at */
	allowed = allowed || type == RECORDOID || type == RECORDARRAYOID || type == UNKNOWNOID;
	/* what a column has, and a list of such values */
	for (int i = 0; i < rules->columns->natts && !allowed; i++)
	{
		Form_pg_attribute column = TupleDescAttr(rules->columns, i);

		allowed = !column->attisdropped && (column->atttypid == type || column->atttypid == get_element_type(type));
	}
	if (!allowed)
		rules->refuse(CRM_FAULT_TYPE, format_type_be(type), InvalidOid);
}

/* Whether a superuser or the owner of our tables made it. */
static bool
type_of_owner(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
		ReleaseSysCache(tuple);
	}
	return OidIsValid(owner) && (superuser_arg(owner) || owner == get_role_oid("crm_owner", true));
}

/*
 * Base types, ranges and arrays of PostgreSQL's own, but for those that stand
 * for other objects of the database, or are parsed by a library.
 */
static bool
type_allowed(Oid type)
{
	Oid			element = get_base_element_type(type);
	char		kind;

	if (type >= FirstUnpinnedObjectId)
		return false;
	if (OidIsValid(element))
		return type_allowed(element);
	switch (type)
	{
		case XMLOID:
		case ACLITEMOID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
			return false;
		default:
			kind = get_typtype(type);
			return kind == TYPTYPE_BASE || kind == TYPTYPE_RANGE || kind == TYPTYPE_MULTIRANGE;
	}
}

/* Marks the fault in the text that people wrote, not in the query around it. */
static void
written_context(void *arg)
{
	const char *const *words = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(words[1]);
	}
	errcontext("%s: %s", words[0], words[1]);
}

char *
crm_expression_written(Oid relation, const char *hint, const char *text, Oid type, const char *name,
					   const char *context, const CrmExpressionRules *rules)
{
	const char *words[] = {context, text};
	ErrorContextCallback callback;
	Relation	rel;
	char	   *result;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("no relation has the OID %u", relation),
				 errhint("%s", hint)));
	if (pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(relation)), get_rel_name(relation));

	callback.callback = written_context;
	callback.arg = words;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	rel = table_open(relation, AccessShareLock);
	result = deparse_expression(crm_expression_read(text, rel, type, name, rules),
								deparse_context_for(RelationGetRelationName(rel), relation), false, false);
	table_close(rel, NoLock);
	error_context_stack = callback.previous;
	return result;
}

/* Parses, analyses and checks.  Every error carries the text and a hint. */
Node *
crm_expression_of_row(const CrmRowExpression *row, const char *what, const char *text)
{
	MemoryContext caller = CurrentMemoryContext;
	Node	   *volatile result = NULL;

	PG_TRY();
	{
		Relation	rel = table_open(row->table, AccessShareLock);
		CrmExpressionRules rules = {row->refuse, crm_expression_refuse_moment, crm_expression_harmless};
		Datum	   *values;
		Oid		   *functions;
		int			n;

		deconstruct_array(DatumGetArrayTypeP(OidFunctionCall0(row->functions)), OIDOID, sizeof(Oid), true, TYPALIGN_INT, &values, NULL, &n);
		functions = palloc(sizeof(Oid) * Max(n, 1));
		for (int i = 0; i < n; i++)
			functions[i] = DatumGetObjectId(values[i]);
		rules.allowed = functions;
		rules.n_allowed = n;
		result = crm_expression_read(text, rel, BOOLOID, row->name, &rules);
		table_close(rel, NoLock);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) &&
			error->sqlerrcode != ERRCODE_FEATURE_NOT_SUPPORTED &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(error->sqlerrcode),
				 errmsg("%s of %s is refused: %s", what, row->of, error->message),
				 errdetail("The text: %s", text),
				 errhint("%s", error->hint ? error->hint : row->hint)));
	}
	PG_END_TRY();
	return result;
}
