/*-------------------------------------------------------------------------
 *
 * activation.c
 *	  Whether this database may act: its mode, and the guard that every
 *	  trigger with an effect asks.
 *
 * The truth is the one row of crm.activation, which no dump carries.  It is
 * bound to the system identifier, the timeline, the machine, the data
 * directory and the database's oid, since a physical copy keeps the first
 * two.  The directory is its inode and that of the PG_VERSION in it, with the
 * hour of its birth: a backup that is unpacked into the directory that was
 * there before makes that file anew, and no server ever writes it again.  So a
 * directory may be renamed within its file system, and any copy is another.
 *
 * A promotion on another machine that the row names in hosts may change
 * timeline, machine and directory: it is known by its larger timeline, whose
 * history says that recovery was ended and not stopped at a target.  A copy on
 * a named machine, without that, is a copy.  The first courier after a
 * promotion binds the row to what is there (crm.rebind()), so that copies of
 * the new primary are told from it.  Any other difference means off, and
 * crm.health says which.
 *
 * A database's name is not part of the binding: ALTER DATABASE RENAME of a
 * live database keeps it live, and every copy has another oid or differs in
 * one of the other parts.
 *
 * The row is read by a scan of its heap, with no SQL and no cache: 3 us, and
 * true within the transaction that activates.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/core.h"

#define MACHINE_LEN 64
#define DIRECTORY_LEN 128

/* Columns of crm.activation, in the order of the table. */
enum
{
	ACT_ONLY_ROW = 1,
	ACT_MODE,
	ACT_SYSTEM,
	ACT_TIMELINE,
	ACT_MACHINE,
	ACT_DIRECTORY,
	ACT_DATABASE,
	ACT_HOSTS,
	ACT_COLUMNS = ACT_HOSTS
};

typedef struct Binding
{
	char		system[24];		/* system identifier, decimal */
	int32		timeline;
	char		machine[MACHINE_LEN];	/* /etc/machine-id, or the host name where there is none */
	char		directory[DIRECTORY_LEN];	/* device:inode of the data directory, inode and birth
											 * of its PG_VERSION */
	Oid			database;
} Binding;

PG_FUNCTION_INFO_V1(crm_mode_sql);
PG_FUNCTION_INFO_V1(crm_guard_sql);
PG_FUNCTION_INFO_V1(crm_binding);
PG_FUNCTION_INFO_V1(crm_activation_problem);

/* The machine and the data directory do not change in a process's life. */
static void
read_machine(Binding *b)
{
	static char machine[MACHINE_LEN];
	static char directory[DIRECTORY_LEN];

	if (machine[0] == '\0')
	{
		int			fd = OpenTransientFile("/etc/machine-id", O_RDONLY | PG_BINARY);
		struct stat st;
		struct statx file;

		if (fd >= 0)
		{
			int			n = read(fd, machine, sizeof(machine) - 1);

			machine[Max(n, 0)] = '\0';
			machine[strcspn(machine, "\n")] = '\0';
			CloseTransientFile(fd);
		}
		if (machine[0] == '\0' && gethostname(machine, sizeof(machine) - 1) != 0)
			strlcpy(machine, "unknown", sizeof(machine));
		if (stat(DataDir, &st) == 0 &&
			statx(AT_FDCWD, "PG_VERSION", 0, STATX_INO | STATX_BTIME, &file) == 0)
		{
			/* a file system that keeps no birth gives zeros */
			if (!(file.stx_mask & STATX_BTIME))
				memset(&file.stx_btime, 0, sizeof(file.stx_btime));
			snprintf(directory, sizeof(directory), "%llu:%llu:%llu:%lld.%09u",
					 (unsigned long long) st.st_dev, (unsigned long long) st.st_ino,
					 (unsigned long long) file.stx_ino,
					 (long long) file.stx_btime.tv_sec, (unsigned) file.stx_btime.tv_nsec);
		}
	}
	strlcpy(b->machine, machine, sizeof(b->machine));
	strlcpy(b->directory, directory, sizeof(b->directory));
}

static void
read_binding(Binding *b)
{
	memset(b, 0, sizeof(*b));
	snprintf(b->system, sizeof(b->system), UINT64_FORMAT, GetSystemIdentifier());
	b->timeline = RecoveryInProgress() ? 0 : (int32) GetWALInsertionTimeLine();
	read_machine(b);
	b->database = MyDatabaseId;
}

/* Whether this machine is one of those that the activation names for a promotion. */
static bool
host_is_named(Datum hosts)
{
	char		name[256];
	Datum	   *elems;
	bool	   *nulls;
	int			count;
	bool		named = false;

	if (gethostname(name, sizeof(name) - 1) != 0)
		return false;
	name[sizeof(name) - 1] = '\0';
	deconstruct_array(DatumGetArrayTypeP(hosts), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &count);
	for (int i = 0; i < count && !named; i++)
		named = !nulls[i] && strcmp(TextDatumGetCString(elems[i]), name) == 0;
	return named;
}

/*
 * Whether this timeline began with the end of recovery, as a promotion's does,
 * and not at a target.  Its history file says so in its last line; where it
 * cannot be read it does not.
 */
static bool
was_promoted(TimeLineID timeline)
{
	static TimeLineID asked = 0;
	static bool promoted = false;
	char		path[MAXPGPATH];
	char		line[1024];
	FILE	   *file;

	if (asked == timeline)
		return promoted;
	TLHistoryFilePath(path, timeline);
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		return false;
	promoted = false;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		if (strspn(line, " \t\r\n") < strlen(line) && line[0] != '#')
			promoted = strstr(line, "no recovery target specified") != NULL;
	}
	FreeFile(file);
	asked = timeline;
	return promoted;
}

/* What differs between the row and this server; NULL where the binding holds. */
static char *
binding_difference(Datum *v, bool *isnull)
{
	Binding		b;
	bool		here;
	int32		timeline;

	read_binding(&b);
	if (b.timeline == 0)
		return psprintf("the server is a standby");
	if (strcmp(TextDatumGetCString(v[ACT_SYSTEM - 1]), b.system) != 0)
		return psprintf("activated on system %s, this is %s", TextDatumGetCString(v[ACT_SYSTEM - 1]), b.system);
	if (DatumGetObjectId(v[ACT_DATABASE - 1]) != b.database)
		return psprintf("activated for the database with oid %u, this one has %u",
						DatumGetObjectId(v[ACT_DATABASE - 1]), b.database);

	here = strcmp(TextDatumGetCString(v[ACT_MACHINE - 1]), b.machine) == 0;
	timeline = DatumGetInt32(v[ACT_TIMELINE - 1]);
	if (!here)
	{
		if (isnull[ACT_HOSTS - 1] || !host_is_named(v[ACT_HOSTS - 1]))
			return psprintf("activated on another machine");
		if (b.timeline <= timeline)
			return psprintf("activated on another machine, and no standby was promoted here");
		if (!was_promoted(b.timeline))
			return psprintf("activated on another machine, and recovered here to a point in time");
		return NULL;
	}
	if (strcmp(TextDatumGetCString(v[ACT_DIRECTORY - 1]), b.directory) != 0)
		return psprintf("activated in another data directory, or restored into this one");
	if (timeline != b.timeline)
		return psprintf("activated on timeline %d, this is %d", timeline, b.timeline);
	return NULL;
}

/*
 * The mode that the row grants here; *problem says why it is off, where it is
 * and the caller asks.  *active: the row is there and its binding holds.
 */
static CrmMode
granted_mode(bool *active, char **problem)
{
	CrmMode		mode = CRM_OFF;
	Oid			oid = crm_table("activation");
	Relation	rel;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;
	char	   *why = "never activated, or restored from a dump";

	*active = false;
	if (!OidIsValid(oid))
	{
		if (problem)
			*problem = "the extension is not installed";
		return CRM_OFF;
	}

	rel = table_open(oid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	if ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Datum		v[ACT_COLUMNS];
		bool		isnull[ACT_COLUMNS];

		for (int i = 0; i < ACT_COLUMNS; i++)
			v[i] = heap_getattr(tuple, i + 1, RelationGetDescr(rel), &isnull[i]);
		why = binding_difference(v, isnull);
		if (why == NULL)
		{
			char	   *word = TextDatumGetCString(v[ACT_MODE - 1]);

			*active = true;
			if (strcmp(word, "live") == 0)
				mode = CRM_LIVE;
			else if (strcmp(word, "sandbox") == 0)
				mode = CRM_SANDBOX;
		}
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	if (problem)
		*problem = why;
	return mode;
}

/* What may leave this database now: what was granted, lowered by crm.mode. */
CrmMode
crm_mode(void)
{
	bool		active;

	return Min(granted_mode(&active, NULL), (CrmMode) crm_guc_mode);
}

/*
 * Whether triggers may have effects here.  A mode of off that a person chose
 * still lets facts move deals and queue messages; a missing or foreign
 * activation does not, nor does a session that replays rows.
 */
bool
crm_guard(void)
{
	bool		active;

	(void) granted_mode(&active, NULL);
	return active;
}

Datum
crm_mode_sql(PG_FUNCTION_ARGS)
{
	static const char *const words[] = {"off", "sandbox", "live"};

	PG_RETURN_TEXT_P(cstring_to_text(words[crm_mode()]));
}

Datum
crm_guard_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(crm_guard());
}

/* crm.activation_problem(): why the activation does not hold here; NULL where it does. */
Datum
crm_activation_problem(PG_FUNCTION_ARGS)
{
	bool		active;
	char	   *problem = NULL;

	(void) granted_mode(&active, &problem);
	if (active)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/* crm.binding(): what an activation is bound to on this server. */
Datum
crm_binding(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {0};
	Binding		b;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("crm.binding() returns a row"),
				 errhint("Call it in FROM.")));
	read_binding(&b);
	values[0] = CStringGetTextDatum(b.system);
	values[1] = Int32GetDatum(b.timeline);
	values[2] = CStringGetTextDatum(b.machine);
	values[3] = CStringGetTextDatum(b.directory);
	values[4] = ObjectIdGetDatum(b.database);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
