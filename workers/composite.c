/*-------------------------------------------------------------------------
 *
 * composite.c
 *	  Between the rows of the database and what moves: crm.request taken apart,
 *	  crm.reply put together, bytes of the outside made text.
 *
 * Columns are found by name and type once for a row type, so that a column
 * that a later version adds disturbs nobody.
 *
 * Must never: be called with libcurl's frames on the stack (it may throw).
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "workers/transport.h"

enum
{
	REQ_REF, REQ_METHOD, REQ_URL, REQ_HEADERS, REQ_BODY, REQ_USERNAME,
	REQ_PASSWORD, REQ_TIMEOUT, REQ_CONTEXT
};

static const struct
{
	const char *name;
	Oid			type;
}			columns[CRM_REQUEST_COLUMNS] = {
	{"ref", INT8OID}, {"method", TEXTOID}, {"url", TEXTOID}, {"headers", TEXTARRAYOID},
	{"body", BYTEAOID}, {"username", TEXTOID}, {"password", TEXTOID},
	{"timeout_ms", INT4OID}, {"context", JSONBOID}
};

static const struct
{
	const char *name;
	Oid			type;
}			reply_columns[] = {
	{"ref", INT8OID}, {"status", INT4OID}, {"headers", TEXTOID}, {"body", BYTEAOID},
	{"error", TEXTOID}, {"sent", BOOLOID}, {"elapsed_ms", INT4OID}, {"context", JSONBOID}
};

static CrmText
text_of(Datum datum, bool isnull)
{
	CrmText		result = {NULL, 0};

	if (!isnull)
	{
		struct varlena *value = PG_DETOAST_DATUM_PACKED(datum);

		result.data = VARDATA_ANY(value);
		result.length = VARSIZE_ANY_EXHDR(value);
	}
	return result;
}

static void
map_columns(CrmRequestType *type, HeapTupleHeader header)
{
	type->desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header),
											 HeapTupleHeaderGetTypMod(header));
	for (int i = 0; i < CRM_REQUEST_COLUMNS; i++)
	{
		type->map[i] = -1;
		for (int j = 0; j < type->desc->natts; j++)
		{
			Form_pg_attribute attribute = TupleDescAttr(type->desc, j);

			if (!attribute->attisdropped &&
				strcmp(NameStr(attribute->attname), columns[i].name) == 0 &&
				attribute->atttypid == columns[i].type)
				type->map[i] = j;
		}
		if (type->map[i] < 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("type crm.request has no column \"%s\" of type %s",
							columns[i].name, format_type_be(columns[i].type)),
					 errhint("Run ALTER EXTENSION crm UPDATE, and restart the server if its library is the older one.")));
	}
}

/*
 * A value of type crm.request.  What request points to lives as long as the
 * value, or in the current memory context.  type: zeroed before the first row;
 * its memory is of the current context.
 */
void
crm_request_read(CrmRequestType *type, Datum composite, CrmRequest *request)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(composite);
	HeapTupleData tuple;
	Datum		fields[MaxTupleAttributeNumber];
	bool		nulls[MaxTupleAttributeNumber];
	const int  *map = type->map;

	if (type->desc == NULL)
		map_columns(type, header);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, type->desc, fields, nulls);

	request->ref_null = nulls[map[REQ_REF]];
	request->ref = request->ref_null ? 0 : DatumGetInt64(fields[map[REQ_REF]]);
	request->method = text_of(fields[map[REQ_METHOD]], nulls[map[REQ_METHOD]]);
	request->url = text_of(fields[map[REQ_URL]], nulls[map[REQ_URL]]);
	request->body = text_of(fields[map[REQ_BODY]], nulls[map[REQ_BODY]]);
	request->username = text_of(fields[map[REQ_USERNAME]], nulls[map[REQ_USERNAME]]);
	request->password = text_of(fields[map[REQ_PASSWORD]], nulls[map[REQ_PASSWORD]]);
	request->timeout_ms = nulls[map[REQ_TIMEOUT]] ? 0 : DatumGetInt32(fields[map[REQ_TIMEOUT]]);
	request->context.data = NULL;
	request->context.length = 0;
	if (!nulls[map[REQ_CONTEXT]])
	{
		struct varlena *context = PG_DETOAST_DATUM(fields[map[REQ_CONTEXT]]);

		request->context.data = (char *) context;
		request->context.length = VARSIZE(context);
	}
	request->header_count = 0;
	if (!nulls[map[REQ_HEADERS]])
	{
		Datum	   *lines;
		bool	   *line_nulls;
		int			count;

		deconstruct_array(DatumGetArrayTypeP(fields[map[REQ_HEADERS]]), TEXTOID, -1, false,
						  TYPALIGN_INT, &lines, &line_nulls, &count);
		request->header_count = count > CRM_HEADERS_LIMIT ? -1 : count;
		for (int i = 0; i < request->header_count; i++)
			request->headers[i] = text_of(lines[i], line_nulls[i]);
	}
}

/*
 * The row type crm.reply, of which the first columns must be the ones that are
 * known here.
 */
TupleDesc
crm_reply_desc(Oid *type)
{
	TupleDesc	desc;

	*type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("reply"),
							ObjectIdGetDatum(get_namespace_oid("crm", false)));
	if (!OidIsValid(*type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type crm.reply does not exist"),
				 errhint("The extension crm is not whole in this database. Restore it from a dump, or create it anew.")));
	desc = lookup_rowtype_tupdesc_copy(*type, -1);
	for (int i = 0; i < lengthof(reply_columns); i++)
	{
		if (desc->natts <= i ||
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), reply_columns[i].name) != 0 ||
			TupleDescAttr(desc, i)->atttypid != reply_columns[i].type)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column %d of type crm.reply is not \"%s\" of type %s",
							i + 1, reply_columns[i].name, format_type_be(reply_columns[i].type)),
					 errhint("Run ALTER EXTENSION crm UPDATE, and restart the server if its library is the older one.")));
	}
	return desc;
}

/*
 * A transfer that has ended, as a value of that type.  Headers and body are
 * NULL where none came.
 */
Datum
crm_reply_datum(const CrmTransfer *t, TupleDesc desc)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		nulls[MaxTupleAttributeNumber];

	memset(nulls, true, desc->natts);
	nulls[0] = t->ref_null;
	values[0] = Int64GetDatum(t->ref);
	nulls[1] = false;
	values[1] = Int32GetDatum(t->status);
	if (t->head.length > 0)
	{
		nulls[2] = false;
		values[2] = crm_text_from_outside(t->head.data, t->head.length);
	}
	if (t->reply.length > 0)
	{
		nulls[3] = false;
		values[3] = PointerGetDatum(cstring_to_text_with_len(t->reply.data, (int) t->reply.length));
	}
	if (t->error[0] != '\0')
	{
		nulls[4] = false;
		values[4] = crm_text_from_outside(t->error, strlen(t->error));
	}
	nulls[5] = nulls[6] = false;
	values[5] = BoolGetDatum(t->sent);
	values[6] = Int32GetDatum(t->elapsed_ms);
	if (t->context != NULL)
	{
		nulls[7] = false;
		values[7] = PointerGetDatum(t->context);
	}
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/*
 * Bytes of the outside as text of this database: what is not valid there
 * becomes a question mark.
 */
Datum
crm_text_from_outside(const char *data, size_t length)
{
	text	   *result = palloc(length + VARHDRSZ);
	char	   *to = VARDATA(result);
	bool		valid = pg_verify_mbstr(GetDatabaseEncoding(), data, (int) length, true);

	for (size_t i = 0; i < length; i++)
		to[i] = data[i] == '\0' || (!valid && (data[i] & 0x80)) ? '?' : data[i];
	SET_VARSIZE(result, length + VARHDRSZ);
	return PointerGetDatum(result);
}
