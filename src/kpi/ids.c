/*-------------------------------------------------------------------------
 *
 * ids.c
 *	  Exact sets of bigint that merge: the state of every distinct count.
 *
 * A set lives in roaring bitmaps, one for each upper half of an id.  As a
 * value it is bytea in the portable 64-bit format of Roaring: the number of
 * parts (uint64, little-endian), then for each part its upper half (uint32)
 * and a portable 32-bit bitmap, upper halves ascending as unsigned numbers.
 * The state of an aggregate goes between processes in the same form.
 *
 * CRoaring allocates with malloc.  Every bitmap is therefore held by a set
 * that a reset callback of its memory context frees: neither an error nor a
 * cancelled query leaks.  It must never hand bytes to CRoaring that were not
 * proved sound by ids_check_part(): its reader believes the cardinality that
 * the bytes claim, and would write past its memory.
 *
 * No shared memory, no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

#define IDS_BUFFER 1024			/* ids gathered before CRoaring sees them */
#define IDS_CHECK_EVERY 1024	/* flushes between two looks at the size, at least */
#define IDS_MAX_BYTES ((Size) 512 * 1024 * 1024)

typedef struct IdsPart
{
	uint32		high;
	roaring_bitmap_t *low;
} IdsPart;

/* A set of ids; parts ascending by high. */
typedef struct Ids
{
	MemoryContextCallback callback;
	MemoryContext context;
	int			nparts;
	int			maxparts;
	IdsPart    *parts;
	int			last;			/* the part that was used last */
	int64		until_check;	/* flushes before the size is looked at again */
	uint32		buffer_high;
	int			nbuffer;
	uint32		buffer[IDS_BUFFER];
} Ids;

/* What crm.ids_members() walks. */
typedef struct IdsWalk
{
	Ids		   *ids;
	int			first;			/* the part of the least signed id */
	int			done;
	bool		inside;
	roaring_uint32_iterator_t iterator;
} IdsWalk;

PG_FUNCTION_INFO_V1(crm_ids_add);
PG_FUNCTION_INFO_V1(crm_ids_add_set);
PG_FUNCTION_INFO_V1(crm_ids_combine);
PG_FUNCTION_INFO_V1(crm_ids_serial);
PG_FUNCTION_INFO_V1(crm_ids_deserial);
PG_FUNCTION_INFO_V1(crm_ids_final_set);
PG_FUNCTION_INFO_V1(crm_ids_final_count);
PG_FUNCTION_INFO_V1(crm_ids_count);
PG_FUNCTION_INFO_V1(crm_ids_members);
PG_FUNCTION_INFO_V1(crm_ids_contains);
PG_FUNCTION_INFO_V1(crm_ids_union);
PG_FUNCTION_INFO_V1(crm_ids_intersect);
PG_FUNCTION_INFO_V1(crm_ids_except);

/* ---- the set ----------------------------------------------------------- */

static void
ids_release(void *arg)
{
	Ids		   *ids = arg;

	for (int i = 0; i < ids->nparts; i++)
		roaring_bitmap_free(ids->parts[i].low);
	ids->nparts = 0;
}

static Ids *
ids_create(MemoryContext context)
{
	Ids		   *ids = MemoryContextAllocZero(context, sizeof(Ids));

	ids->context = context;
	ids->maxparts = 4;
	ids->parts = MemoryContextAlloc(context, sizeof(IdsPart) * ids->maxparts);
	ids->callback.func = ids_release;
	ids->callback.arg = ids;
	MemoryContextRegisterResetCallback(context, &ids->callback);
	return ids;
}

static void
ids_no_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory for a set of ids")));
}

static void
ids_too_large(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("a set of ids is larger than %zu MB", IDS_MAX_BYTES / (1024 * 1024)),
			 errhint("Count over a shorter period, or over fewer objects.")));
}

/*
 * The part of an upper half, made where there is none.  Its place is found
 * first and its bitmap last, so that an error leaves the set whole.
 */
static roaring_bitmap_t *
ids_part(Ids *ids, uint32 high, bool make)
{
	int			lo = 0;
	int			hi = ids->nparts;
	roaring_bitmap_t *low;

	if (ids->last < ids->nparts && ids->parts[ids->last].high == high)
		return ids->parts[ids->last].low;
	while (lo < hi)
	{
		int			mid = lo + (hi - lo) / 2;

		if (ids->parts[mid].high < high)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < ids->nparts && ids->parts[lo].high == high)
	{
		ids->last = lo;
		return ids->parts[lo].low;
	}
	if (!make)
		return NULL;
	if (ids->nparts == ids->maxparts)
	{
		if ((Size) ids->maxparts * 2 * sizeof(IdsPart) > MaxAllocSize)
			ids_too_large();
		ids->parts = repalloc(ids->parts, sizeof(IdsPart) * ids->maxparts * 2);
		ids->maxparts *= 2;
	}
	low = roaring_bitmap_create();
	if (low == NULL)
		ids_no_memory();
	memmove(&ids->parts[lo + 1], &ids->parts[lo], sizeof(IdsPart) * (ids->nparts - lo));
	ids->parts[lo].high = high;
	ids->parts[lo].low = low;
	ids->nparts++;
	ids->last = lo;
	return low;
}

static Size
ids_bytes(Ids *ids)
{
	Size		size = sizeof(uint64);

	for (int i = 0; i < ids->nparts; i++)
		size += sizeof(uint32) + roaring_bitmap_portable_size_in_bytes(ids->parts[i].low);
	return size;
}

/*
 * Refuses a set that grew too large: what malloc gave for heads and containers
 * counts, not only their bytes.  Looking costs as much as there are parts, so
 * it happens the more seldom the more there are.
 */
static void
ids_check_size(Ids *ids)
{
	Size		size = ids_bytes(ids);

	for (int i = 0; i < ids->nparts; i++)
		size += 128 + (Size) 64 * ids->parts[i].low->high_low_container.size;
	if (size > IDS_MAX_BYTES)
		ids_too_large();
	ids->until_check = Max(IDS_CHECK_EVERY, ids->nparts);
}

static void
ids_flush(Ids *ids)
{
	if (ids->nbuffer == 0)
		return;
	roaring_bitmap_add_many(ids_part(ids, ids->buffer_high, true), ids->nbuffer, ids->buffer);
	ids->nbuffer = 0;
	if (--ids->until_check < 0)
		ids_check_size(ids);
}

static inline void
ids_put(Ids *ids, int64 id)
{
	uint32		high = (uint32) ((uint64) id >> 32);

	if (ids->nbuffer == IDS_BUFFER || (ids->nbuffer > 0 && ids->buffer_high != high))
		ids_flush(ids);
	ids->buffer_high = high;
	ids->buffer[ids->nbuffer++] = (uint32) id;
}

static uint64
ids_cardinality(Ids *ids)
{
	uint64		n = 0;

	ids_flush(ids);
	for (int i = 0; i < ids->nparts; i++)
		n += roaring_bitmap_get_cardinality(ids->parts[i].low);
	return n;
}

/* Adds every id of another set; that one stays as it is. */
static void
ids_merge(Ids *into, Ids *from)
{
	ids_flush(into);
	ids_flush(from);
	for (int i = 0; i < from->nparts; i++)
	{
		CHECK_FOR_INTERRUPTS();
		roaring_bitmap_or_inplace(ids_part(into, from->parts[i].high, true), from->parts[i].low);
	}
	ids_check_size(into);
}

/* ---- bytes ------------------------------------------------------------- */

static bytea *
ids_write(Ids *ids)
{
	Size		size;
	bytea	   *result;
	char	   *p;
	uint64		nparts = 0;

	ids_flush(ids);
	for (int i = 0; i < ids->nparts; i++)
		roaring_bitmap_run_optimize(ids->parts[i].low);
	size = ids_bytes(ids);
	if (size > IDS_MAX_BYTES)
		ids_too_large();
	result = palloc(VARHDRSZ + size);
	p = VARDATA(result) + sizeof(uint64);
	for (int i = 0; i < ids->nparts; i++)
	{
		/* An intersection may have left parts without members. */
		if (roaring_bitmap_is_empty(ids->parts[i].low))
			continue;
		memcpy(p, &ids->parts[i].high, sizeof(uint32));
		p += sizeof(uint32);
		p += roaring_bitmap_portable_serialize(ids->parts[i].low, p);
		nparts++;
	}
	memcpy(VARDATA(result), &nparts, sizeof(uint64));
	SET_VARSIZE(result, p - (char *) result);
	return result;
}

static inline uint16
get16(const uint8 *p)
{
	return (uint16) (p[0] | (p[1] << 8));
}

static inline uint32
get32(const uint8 *p)
{
	return (uint32) p[0] | ((uint32) p[1] << 8) | ((uint32) p[2] << 16) | ((uint32) p[3] << 24);
}

/*
 * Whether the bytes begin with a sound portable bitmap; returns its length,
 * 0 where they do not.  Sound: keys and values ascend strictly, a bit field
 * holds as many bits as its head says, runs neither touch nor leave the
 * container, everything lies within the bytes.
 */
static Size
ids_check_part(const uint8 *p, Size size)
{
	const uint32 cookie_plain = 12346;
	const uint32 cookie_runs = 12347;
	const uint8 *end = p + size;
	const uint8 *start = p;
	const uint8 *run_flags = NULL;
	const uint8 *head;
	uint32		ncontainers;
	int64		last_key = -1;
	bool		offsets;

	if (size < 4)
		return 0;
	if (get16(p) == cookie_runs)
	{
		ncontainers = (get32(p) >> 16) + 1;
		p += 4;
		if (end - p < (ncontainers + 7) / 8)
			return 0;
		run_flags = p;
		p += (ncontainers + 7) / 8;
		offsets = ncontainers >= 4;
	}
	else if (get32(p) == cookie_plain)
	{
		if (size < 8)
			return 0;
		ncontainers = get32(p + 4);
		p += 8;
		offsets = true;
	}
	else
		return 0;
	if (ncontainers == 0 || ncontainers > 65536 || end - p < (Size) ncontainers * 4)
		return 0;
	head = p;
	p += (Size) ncontainers * 4;
	if (offsets)
	{
		if (end - p < (Size) ncontainers * 4)
			return 0;
		p += (Size) ncontainers * 4;
	}
	for (uint32 i = 0; i < ncontainers; i++)
	{
		uint32		key = get16(head + i * 4);
		uint32		card = (uint32) get16(head + i * 4 + 2) + 1;

		CHECK_FOR_INTERRUPTS();
		if ((int64) key <= last_key)
			return 0;
		last_key = key;
		if (offsets && get32(head + (Size) ncontainers * 4 + (Size) i * 4) != (uint32) (p - start))
			return 0;
		if (run_flags != NULL && (run_flags[i / 8] & (1 << (i % 8))) != 0)
		{
			uint32		nruns;
			int64		before = -2;
			uint32		found = 0;

			if (end - p < 2)
				return 0;
			nruns = get16(p);
			p += 2;
			if (nruns == 0 || end - p < (Size) nruns * 4)
				return 0;
			for (uint32 r = 0; r < nruns; r++, p += 4)
			{
				int64		from = get16(p);
				int64		to = from + get16(p + 2);

				if (from <= before + 1 || to > 65535)
					return 0;
				before = to;
				found += to - from + 1;
			}
			if (found != card)
				return 0;
		}
		else if (card <= 4096)
		{
			int64		before = -1;

			if (end - p < (Size) card * 2)
				return 0;
			for (uint32 v = 0; v < card; v++, p += 2)
			{
				if ((int64) get16(p) <= before)
					return 0;
				before = get16(p);
			}
		}
		else
		{
			if (end - p < 8192)
				return 0;
			if (pg_popcount((const char *) p, 8192) != card)
				return 0;
			p += 8192;
		}
	}
	return p - start;
}

static void
ids_unsound(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("these bytes are not a set of ids"),
			 errhint("Make one with crm.ids_agg(id), or with crm.ids_union() of others.")));
}

/* Adds every id of a set in its outside form. */
static void
ids_read(Ids *into, bytea *bytes)
{
	const uint8 *p = (const uint8 *) VARDATA_ANY(bytes);
	Size		left = VARSIZE_ANY_EXHDR(bytes);
	uint64		nparts;
	int64		last_high = -1;

	if (left < sizeof(uint64))
		ids_unsound();
	memcpy(&nparts, p, sizeof(uint64));
	p += sizeof(uint64);
	left -= sizeof(uint64);
	ids_flush(into);
	for (uint64 i = 0; i < nparts; i++)
	{
		uint32		high;
		Size		size;
		roaring_bitmap_t *part;
		roaring_bitmap_t *there;

		CHECK_FOR_INTERRUPTS();
		if (left < sizeof(uint32))
			ids_unsound();
		high = get32(p);
		p += sizeof(uint32);
		left -= sizeof(uint32);
		if ((int64) high <= last_high)
			ids_unsound();
		last_high = high;
		size = ids_check_part(p, left);
		if (size == 0)
			ids_unsound();

		there = ids_part(into, high, true);
		part = roaring_bitmap_portable_deserialize_safe((const char *) p, size);
		if (part == NULL)
			ids_no_memory();
		/* Nothing may throw between here and the end of this block. */
		if (roaring_bitmap_is_empty(there))
		{
			into->parts[into->last].low = part;
			roaring_bitmap_free(there);
		}
		else
		{
			roaring_bitmap_or_inplace(there, part);
			roaring_bitmap_free(part);
		}
		p += size;
		left -= size;
	}
	if (left != 0)
		ids_unsound();
	if (--into->until_check < 0)
		ids_check_size(into);
}

/* ---- aggregates -------------------------------------------------------- */

static MemoryContext
ids_aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("this function works only inside an aggregate"),
				 errhint("Use crm.ids_agg, crm.ids_union_agg or crm.distinct_count.")));
	return context;
}

static Ids *
ids_state(FunctionCallInfo fcinfo)
{
	MemoryContext context = ids_aggregate_context(fcinfo);

	return PG_ARGISNULL(0) ? ids_create(context) : (Ids *) PG_GETARG_POINTER(0);
}

/* crm.ids_add(internal, bigint) -> internal */
Datum
crm_ids_add(PG_FUNCTION_ARGS)
{
	Ids		   *ids = ids_state(fcinfo);

	if (!PG_ARGISNULL(1))
		ids_put(ids, PG_GETARG_INT64(1));
	PG_RETURN_POINTER(ids);
}

/* crm.ids_add_set(internal, bytea) -> internal */
Datum
crm_ids_add_set(PG_FUNCTION_ARGS)
{
	Ids		   *ids = ids_state(fcinfo);

	if (!PG_ARGISNULL(1))
		ids_read(ids, PG_GETARG_BYTEA_PP(1));
	PG_RETURN_POINTER(ids);
}

/* crm.ids_combine(internal, internal) -> internal */
Datum
crm_ids_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = ids_aggregate_context(fcinfo);
	Ids		   *ids = PG_ARGISNULL(0) ? NULL : (Ids *) PG_GETARG_POINTER(0);

	if (PG_ARGISNULL(1))
	{
		if (ids == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(ids);
	}
	if (ids == NULL)
		ids = ids_create(context);
	ids_merge(ids, (Ids *) PG_GETARG_POINTER(1));
	PG_RETURN_POINTER(ids);
}

/* crm.ids_serial(internal) -> bytea */
Datum
crm_ids_serial(PG_FUNCTION_ARGS)
{
	ids_aggregate_context(fcinfo);
	PG_RETURN_BYTEA_P(ids_write((Ids *) PG_GETARG_POINTER(0)));
}

/* crm.ids_deserial(bytea, internal) -> internal */
Datum
crm_ids_deserial(PG_FUNCTION_ARGS)
{
	Ids		   *ids;

	ids_aggregate_context(fcinfo);
	ids = ids_create(CurrentMemoryContext);
	ids_read(ids, PG_GETARG_BYTEA_PP(0));
	PG_RETURN_POINTER(ids);
}

/* crm.ids_final_set(internal) -> bytea; NULL over no row */
Datum
crm_ids_final_set(PG_FUNCTION_ARGS)
{
	ids_aggregate_context(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(ids_write((Ids *) PG_GETARG_POINTER(0)));
}

/* crm.ids_final_count(internal) -> bigint; 0 over no row, as count() */
Datum
crm_ids_final_count(PG_FUNCTION_ARGS)
{
	ids_aggregate_context(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_INT64(0);
	PG_RETURN_INT64((int64) ids_cardinality((Ids *) PG_GETARG_POINTER(0)));
}

/* ---- functions --------------------------------------------------------- */

static Ids *
ids_of(bytea *bytes)
{
	Ids		   *ids = ids_create(CurrentMemoryContext);

	ids_read(ids, bytes);
	return ids;
}

/*
 * A function that is called for many rows runs in a context that is reset
 * only at the end of the row; bitmaps would pile up in a long expression.
 */
static void
ids_done(Ids *ids)
{
	ids_release(ids);
}

/* crm.ids_count(bytea) -> bigint */
Datum
crm_ids_count(PG_FUNCTION_ARGS)
{
	Ids		   *ids = ids_of(PG_GETARG_BYTEA_PP(0));
	uint64		n = ids_cardinality(ids);

	ids_done(ids);
	PG_RETURN_INT64((int64) n);
}

/* crm.ids_contains(bytea, bigint) -> boolean */
Datum
crm_ids_contains(PG_FUNCTION_ARGS)
{
	Ids		   *ids = ids_of(PG_GETARG_BYTEA_PP(0));
	int64		id = PG_GETARG_INT64(1);
	roaring_bitmap_t *part = ids_part(ids, (uint32) ((uint64) id >> 32), false);
	bool		there = part != NULL && roaring_bitmap_contains(part, (uint32) id);

	ids_done(ids);
	PG_RETURN_BOOL(there);
}

/* crm.ids_union(bytea, bytea) -> bytea */
Datum
crm_ids_union(PG_FUNCTION_ARGS)
{
	Ids		   *ids = ids_of(PG_GETARG_BYTEA_PP(0));
	bytea	   *result;

	ids_read(ids, PG_GETARG_BYTEA_PP(1));
	result = ids_write(ids);
	ids_done(ids);
	PG_RETURN_BYTEA_P(result);
}

static bytea *
ids_reduce(bytea *left, bytea *right, bool keep_common)
{
	Ids		   *ids = ids_of(left);
	Ids		   *other = ids_of(right);
	bytea	   *result;

	for (int i = 0; i < ids->nparts; i++)
	{
		roaring_bitmap_t *part = ids_part(other, ids->parts[i].high, false);

		CHECK_FOR_INTERRUPTS();
		if (!keep_common)
		{
			if (part != NULL)
				roaring_bitmap_andnot_inplace(ids->parts[i].low, part);
		}
		else if (part != NULL)
			roaring_bitmap_and_inplace(ids->parts[i].low, part);
		else
			roaring_bitmap_clear(ids->parts[i].low);
	}
	result = ids_write(ids);
	ids_done(ids);
	ids_done(other);
	return result;
}

/* crm.ids_intersect(bytea, bytea) -> bytea */
Datum
crm_ids_intersect(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(ids_reduce(PG_GETARG_BYTEA_PP(0), PG_GETARG_BYTEA_PP(1), true));
}

/* crm.ids_except(bytea, bytea) -> bytea */
Datum
crm_ids_except(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(ids_reduce(PG_GETARG_BYTEA_PP(0), PG_GETARG_BYTEA_PP(1), false));
}

/* crm.ids_members(bytea) -> setof bigint, ascending */
Datum
crm_ids_members(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	IdsWalk    *walk;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;

		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		walk = palloc0(sizeof(IdsWalk));
		walk->ids = ids_of(PG_GETARG_BYTEA_PP(0));
		/* Negative ids are the largest as unsigned numbers: start with them. */
		while (walk->first < walk->ids->nparts && (int32) walk->ids->parts[walk->first].high >= 0)
			walk->first++;
		call->user_fctx = walk;
		MemoryContextSwitchTo(old);
	}
	call = SRF_PERCALL_SETUP();
	walk = call->user_fctx;
	while (walk->done < walk->ids->nparts)
	{
		IdsPart    *part = &walk->ids->parts[(walk->first + walk->done) % walk->ids->nparts];

		if (!walk->inside)
		{
			roaring_init_iterator(part->low, &walk->iterator);
			walk->inside = true;
		}
		if (walk->iterator.has_value)
		{
			int64		id = (int64) (((uint64) part->high << 32) | walk->iterator.current_value);

			roaring_advance_uint32_iterator(&walk->iterator);
			SRF_RETURN_NEXT(call, Int64GetDatum(id));
		}
		walk->inside = false;
		walk->done++;
	}
	SRF_RETURN_DONE(call);
}
