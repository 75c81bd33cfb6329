/*-------------------------------------------------------------------------
 *
 * call.c
 *	  Calls the functions that a kind or a route names: with whose rights,
 *	  and for how long.
 *
 * Names of functions are kept as text, since a dump must not depend on oids.
 * A name is a full one (schema.function) and is looked up at each call
 * together with the argument types that its role demands; what is found is
 * checked again each time, since its owner may have changed.
 *
 * A function runs as its owner where that is crm_owner or a member of
 * crm_integrator; the function of a superuser runs as crm_courier, so that
 * a courier never becomes a superuser.  It runs in a security-restricted
 * context: no SET ROLE, no temporary objects, no LISTEN.
 *
 * This file must never call a function of which the role check above was not
 * made in the same call, and must leave user, security context and settings
 * as they were in every outcome; after an error the abort of the surrounding
 * (sub)transaction restores user and settings, and current_call is restored
 * here.  No lock guards anything: all state is of this process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "integration/integration.h"

/* What a function must look like to serve in a role. */
typedef struct KindRole
{
	const char *name;
	const char *signature;		/* for hints; %s is the function */
	Oid			builtin[2];		/* argument types of pg_catalog … */
	const char *own;			/* … or the last argument: type of crm */
	bool		own_is_array;
	int			nargs;
	Oid			result_builtin;
	const char *result_own;
	bool		result_set;
	bool		of_nobody;		/* its first argument is no integration: it sees no secrets */
} KindRole;

static const KindRole kind_roles[] = {
	{"next", "%s(integration_id bigint, capacity integer) RETURNS SETOF crm.request",
	{INT8OID, INT4OID}, NULL, false, 2, InvalidOid, "request", true},
	{"take", "%s(integration_id bigint, replies crm.reply[]) RETURNS void",
	{INT8OID, InvalidOid}, "reply", true, 2, VOIDOID, NULL, false},
	{"test", "%s(integration_id bigint) RETURNS SETOF crm.request",
	{INT8OID, InvalidOid}, NULL, false, 1, InvalidOid, "request", true},
	{"judge", "%s(integration_id bigint, reply crm.reply) RETURNS text",
	{INT8OID, InvalidOid}, "reply", false, 2, TEXTOID, NULL, false},
	{"route", "%s(integration_id bigint, request crm.http_request) RETURNS crm.http_response",
	{INT8OID, InvalidOid}, "http_request", false, 2, InvalidOid, "http_response", false},
	{"schedule", "%s(schedule_id bigint, planned_at timestamptz) RETURNS void",
	{INT8OID, TIMESTAMPTZOID}, NULL, false, 2, VOIDOID, NULL, false, true},
	{"link", "%s(link_id bigint, request crm.http_request) RETURNS crm.http_response",
	{INT8OID, InvalidOid}, "http_request", false, 2, InvalidOid, "http_response", false, true}
};

/* A function that was found and checked. */
typedef struct KindFunction
{
	const KindRole *role;
	Oid			oid;
	Oid			run_as;
	char	   *quoted;			/* "schema"."name", for SQL */
} KindFunction;

/* The call under way in this process, innermost. */
typedef struct KindCall
{
	int64		integration_id;
	bool		timed_out;
	struct KindCall *outer;
} KindCall;

static KindCall *current_call = NULL;
static TimeoutId call_timeout = MAX_TIMEOUTS;	/* not registered yet */
static volatile sig_atomic_t call_timeout_fired = false;

static const KindRole *role_of(const char *name);
static Oid	crm_type(const char *name, bool array);
static void find_function(const KindRole *role, text *function, KindFunction *found);
static void call_timeout_handler(void);
static Datum guarded_call(FunctionCallInfo fcinfo, const char *role_name, Datum second);
static Datum call_set(const KindFunction *f, int64 integration_id, int32 capacity);
static Datum call_plain(const KindFunction *f, int64 integration_id, Datum second, bool *isnull);

PG_FUNCTION_INFO_V1(crm_integration_kind_call);
PG_FUNCTION_INFO_V1(crm_integration_in_script);
PG_FUNCTION_INFO_V1(crm_integration_check_function);
PG_FUNCTION_INFO_V1(crm_integration_call_next);
PG_FUNCTION_INFO_V1(crm_integration_call_take);
PG_FUNCTION_INFO_V1(crm_integration_call_test);
PG_FUNCTION_INFO_V1(crm_integration_call_judge);
PG_FUNCTION_INFO_V1(crm_integration_call_route);
PG_FUNCTION_INFO_V1(crm_integration_call_schedule);
PG_FUNCTION_INFO_V1(crm_integration_call_link);

bool
crm_kind_call(int64 *integration_id)
{
	if (current_call == NULL)
		return false;
	*integration_id = current_call->integration_id;
	return true;
}

Datum
crm_integration_kind_call(PG_FUNCTION_ARGS)
{
	int64		id;

	if (!crm_kind_call(&id))
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}

Datum
crm_integration_in_script(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(creating_extension);
}

Datum
crm_integration_check_function(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	KindFunction found;

	find_function(role_of(name), PG_GETARG_TEXT_PP(1), &found);
	PG_RETURN_VOID();
}

Datum
crm_integration_call_next(PG_FUNCTION_ARGS)
{
	return guarded_call(fcinfo, "next", PG_GETARG_DATUM(2));
}

Datum
crm_integration_call_take(PG_FUNCTION_ARGS)
{
	(void) guarded_call(fcinfo, "take", PG_GETARG_DATUM(2));
	PG_RETURN_VOID();
}

Datum
crm_integration_call_test(PG_FUNCTION_ARGS)
{
	return guarded_call(fcinfo, "test", (Datum) 0);
}

Datum
crm_integration_call_judge(PG_FUNCTION_ARGS)
{
	return guarded_call(fcinfo, "judge", PG_GETARG_DATUM(2));
}

Datum
crm_integration_call_route(PG_FUNCTION_ARGS)
{
	return guarded_call(fcinfo, "route", PG_GETARG_DATUM(2));
}

Datum
crm_integration_call_schedule(PG_FUNCTION_ARGS)
{
	(void) guarded_call(fcinfo, "schedule", PG_GETARG_DATUM(2));
	PG_RETURN_VOID();
}

Datum
crm_integration_call_link(PG_FUNCTION_ARGS)
{
	return guarded_call(fcinfo, "link", PG_GETARG_DATUM(2));
}

static const KindRole *
role_of(const char *name)
{
	for (int i = 0; i < lengthof(kind_roles); i++)
		if (strcmp(kind_roles[i].name, name) == 0)
			return &kind_roles[i];
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("unknown role of a function: \"%s\"", name),
			errhint("Use next, take, test, judge, route, link or schedule."));
}

/* A type of schema crm, or the array of it. */
static Oid
crm_type(const char *name, bool array)
{
	Oid			schema = get_namespace_oid("crm", false);
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum(name), ObjectIdGetDatum(schema));

	if (array && OidIsValid(type))
		type = get_array_type(type);
	if (!OidIsValid(type))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("type crm.%s is not there", name),
				errhint("The extension is damaged; restore the type or create the extension again."));
	return type;
}

/*
 * Looks a function up by its full name and the arguments of its role, and
 * decides as whom it runs.  USAGE on its schema is not asked: what counts is
 * who owns the function.
 */
static void
find_function(const KindRole *role, text *function, KindFunction *found)
{
	char	   *name = text_to_cstring(function);
	List	   *parts = stringToQualifiedNameList(name);
	char	   *schema_name;
	char	   *function_name;
	Oid			schema;
	Oid			argtypes[2];
	Oid			result;
	HeapTuple	tuple = NULL;
	Form_pg_proc proc;
	Oid			owner;
	char	   *wanted = psprintf(role->signature, name);

	if (list_length(parts) != 2)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_NAME),
				errmsg("\"%s\" is no full name of a function", name),
				errhint("Write schema.function."));
	DeconstructQualifiedName(parts, &schema_name, &function_name);

	argtypes[0] = role->builtin[0];
	argtypes[1] = role->own ? crm_type(role->own, role->own_is_array) : role->builtin[1];
	result = role->result_own ? crm_type(role->result_own, false) : role->result_builtin;

	schema = get_namespace_oid(schema_name, true);
	if (OidIsValid(schema))
		tuple = SearchSysCache3(PROCNAMEARGSNSP, PointerGetDatum(function_name),
								PointerGetDatum(buildoidvector(argtypes, role->nargs)),
								ObjectIdGetDatum(schema));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("there is no function \"%s\" that can serve as %s", name, role->name),
				errhint("CREATE FUNCTION %s", wanted));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->prorettype != result ||
		proc->proretset != role->result_set)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				errmsg("function \"%s\" returns %s%s", name,
					   proc->proretset ? "SETOF " : "",
					   proc->prorettype ? format_type_be(proc->prorettype) : "nothing"),
				errhint("As %s it must be %s.", role->name, wanted));

	owner = proc->proowner;
	if (superuser_arg(owner))
	{
		/*
		 * While the extension's script runs its functions still belong to the
		 * installer; the script's end hands them to crm_owner.
		 */
		if (proc->prosecdef && !creating_extension)
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("function \"%s\" is SECURITY DEFINER and belongs to a superuser", name),
					errhint("Couriers run nothing as superuser: ALTER FUNCTION … SECURITY INVOKER, or give it to a member of crm_integrator."));
		owner = get_role_oid("crm_courier", false);
	}
	else if (owner != get_role_oid("crm_owner", true) &&
			 !is_member_of_role_nosuper(owner, get_role_oid("crm_integrator", false)))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("function \"%s\" belongs to \"%s\", whose code couriers do not run",
					   name, GetUserNameFromId(owner, false)),
				errhint("GRANT crm_integrator TO %s;", quote_identifier(GetUserNameFromId(owner, false))));

	/*
	 * Rights of the one who runs it, asked when the function is registered
	 * already: a script's own functions get theirs at the script's end.
	 */
	if (!creating_extension)
	{
		const char *runner = quote_identifier(GetUserNameFromId(owner, false));

		if (pg_namespace_aclcheck(schema, owner, ACL_USAGE) != ACLCHECK_OK)
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("function \"%s\" runs as \"%s\", which may not use its schema", name, runner),
					errhint("GRANT USAGE ON SCHEMA %s TO %s;", quote_identifier(schema_name), runner));
		if (pg_proc_aclcheck(proc->oid, owner, ACL_EXECUTE) != ACLCHECK_OK)
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("function \"%s\" runs as \"%s\", which may not execute it", name, runner),
					errhint("GRANT EXECUTE ON FUNCTION %s TO %s;", format_procedure_qualified(proc->oid), runner));
	}

	found->role = role;
	found->oid = proc->oid;
	found->run_as = owner;
	found->quoted = quote_qualified_identifier(schema_name, function_name);
	ReleaseSysCache(tuple);
}

static void
call_timeout_handler(void)
{
	call_timeout_fired = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/*
 * The common frame of all calls: arguments are (function text,
 * integration_id or link_id bigint, [second,] limit_ms integer).
 */
static Datum
guarded_call(FunctionCallInfo fcinfo, const char *role_name, Datum second)
{
	int64		integration_id = PG_GETARG_INT64(1);
	int32		limit_ms = PG_GETARG_INT32(PG_NARGS() - 1);
	KindFunction f;
	KindCall	call;
	Oid			user;
	int			context;
	int			nestlevel;
	volatile bool isnull = false;
	volatile bool armed = false;
	Datum		result = (Datum) 0;
	MemoryContext outside = CurrentMemoryContext;

	find_function(role_of(role_name), PG_GETARG_TEXT_PP(0), &f);
	if (call_timeout == MAX_TIMEOUTS)
		call_timeout = RegisterTimeout(USER_TIMEOUT, call_timeout_handler);

	GetUserIdAndSecContext(&user, &context);
	call.integration_id = f.role->of_nobody ? 0 : integration_id;
	call.timed_out = false;
	call.outer = current_call;

	SetUserIdAndSecContext(f.run_as, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	nestlevel = NewGUCNestLevel();
	PG_TRY();
	{
		current_call = &call;
		if (call.outer == NULL && limit_ms > 0)
		{
			call_timeout_fired = false;
			armed = true;
			enable_timeout_after(call_timeout, limit_ms);
		}
		if (f.role->result_set)
			result = call_set(&f, integration_id, f.role->nargs == 2 ? DatumGetInt32(second) : 1);
		else
			{
			bool		nothing;

			result = call_plain(&f, integration_id, second, &nothing);
			isnull = nothing;
		}
		CHECK_FOR_INTERRUPTS();
	}
	PG_CATCH();
	{
		current_call = call.outer;
		if (armed)
		{
			disable_timeout(call_timeout, false);
			call.timed_out = call_timeout_fired;
			call_timeout_fired = false;
		}
		if (call.timed_out)
		{
			ErrorData  *error;

			MemoryContextSwitchTo(outside);
			error = CopyErrorData();
			FlushErrorState();
			if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
				ReThrowError(error);
			ereport(ERROR,
					errcode(ERRCODE_QUERY_CANCELED),
					errmsg("%s was not ready after %d ms", f.quoted, limit_ms),
					errhint("Let it do less in one call."));
		}
		PG_RE_THROW();
	}
	PG_END_TRY();

	current_call = call.outer;
	if (armed)
	{
		disable_timeout(call_timeout, false);

		/* Ready in the very moment: the cancel that is pending is ours. */
		if (call_timeout_fired)
			QueryCancelPending = false;
		call_timeout_fired = false;
	}
	AtEOXact_GUC(false, nestlevel);
	SetUserIdAndSecContext(user, context);

	if (isnull)
		PG_RETURN_NULL();
	return result;
}

/* SETOF crm.request as an array; never NULL. */
static Datum
call_set(const KindFunction *f, int64 integration_id, int32 capacity)
{
	Oid			argtypes[2] = {INT8OID, INT4OID};
	Datum		values[2];
	char	   *sql;
	Datum		result;
	bool		isnull;
	MemoryContext outside = CurrentMemoryContext;
	Oid			request = crm_type("request", false);

	values[0] = Int64GetDatum(integration_id);
	values[1] = Int32GetDatum(capacity);
	sql = psprintf("SELECT pg_catalog.array_agg(r) FROM %s(%s) AS r",
				   f->quoted, f->role->nargs == 2 ? "$1, $2" : "$1");

	SPI_connect();
	if (SPI_execute_with_args(sql, f->role->nargs, argtypes, values, NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR,
				errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				errmsg("%s could not be called", f->quoted));
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
	{
		MemoryContext inside = MemoryContextSwitchTo(outside);

		result = PointerGetDatum(construct_empty_array(request));
		MemoryContextSwitchTo(inside);
	}
	else
		result = SPI_datumTransfer(result, false, -1);
	SPI_finish();

	if (!isnull)
	{
		ArrayType  *array = DatumGetArrayTypeP(result);
		int			number = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

		if (number > capacity)
			ereport(ERROR,
					errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					errmsg("%s gave %d requests where %d were asked for", f->quoted, number, capacity),
					errhint("Give at most as many as the second argument says."));
	}
	return result;
}

/* A function that returns one value. */
static Datum
call_plain(const KindFunction *f, int64 integration_id, Datum second, bool *isnull)
{
	FmgrInfo	flinfo;
	Datum		result;

	LOCAL_FCINFO(inner, 2);

	fmgr_info(f->oid, &flinfo);
	InitFunctionCallInfoData(*inner, &flinfo, f->role->nargs, DEFAULT_COLLATION_OID, NULL, NULL);
	inner->args[0].value = Int64GetDatum(integration_id);
	inner->args[0].isnull = false;
	inner->args[1].value = second;
	inner->args[1].isnull = false;
	result = FunctionCallInvoke(inner);
	*isnull = inner->isnull;
	return result;
}
