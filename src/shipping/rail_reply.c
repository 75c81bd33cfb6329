/*
 * rail_reply.c
 *		Replies of ETRAN as trees, and what they carry packed.
 *
 * crm.rail_tree() reads one XML document into jsonb: an element is its
 * attribute "value", or its text, or an object of its children by their local
 * names in small letters; children of one name are an array.  So SQL finds a
 * name whatever its case, and any order will do.
 *
 * Bytes are UTF-8 where they can be and windows-1251 otherwise, whatever the
 * declaration says: within ETRAN it lies.  Characters that XML 1.0 forbids are
 * taken out and counted, written as references too.
 *
 * It must never read a document type: nothing is expanded, nothing is fetched.
 * Depth, number of elements and unpacked size are bounded.  The reader of
 * libxml2 belongs to a memory context whose reset callback frees it, so no
 * error leaks; nothing is raised from inside a frame of libxml2.
 */
#include "postgres.h"

#include <ctype.h>

#include <libxml/xmlreader.h>
#include <zlib.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#define MAX_DEPTH 64
#define MAX_ELEMENTS 5000000
#define MAX_UNPACKED (256 * 1024 * 1024)

/* An element of the document. */
typedef struct Element
{
	char	   *name;			/* local, small letters */
	char	   *value;			/* attribute "value"; NULL: none */
	StringInfoData text;		/* data NULL: none */
	int			order;			/* among its siblings */
	int			nchildren;
	int			room;
	struct Element **children;
} Element;

/* What libxml2 gives us and must be given back. */
typedef struct Reader
{
	MemoryContextCallback callback;
	xmlTextReaderPtr xml;
	char		words[200];		/* its first complaint */
	int			line;
} Reader;

/* The same for zlib. */
typedef struct Unpacker
{
	MemoryContextCallback callback;
	z_stream	stream;
	bool		open;
} Unpacker;

PG_FUNCTION_INFO_V1(crm_shipping_rail_tree);
PG_FUNCTION_INFO_V1(crm_shipping_rail_unpack);

static char *as_utf8(bytea *bytes, int *length);
static char *clean(const char *from, int length, int *clean_length, int *removed);
static int	reference(const char *at, const char *end, bool *allowed);
static Element *read_document(const char *document, int length);
static Element *add_element(Element *parent, const char *name);
static void copy_value(Element *element, xmlTextReaderPtr xml);
static JsonbValue *emit(JsonbParseState **state, Element *element, bool within);
static int	by_name(const void *a, const void *b);
static void complain(void *arg, const char *message, xmlParserSeverities severity, xmlTextReaderLocatorPtr where);

static void
reader_release(void *arg)
{
	Reader	   *reader = arg;

	if (reader->xml != NULL)
		xmlFreeTextReader(reader->xml);
	reader->xml = NULL;
}

static void
unpacker_release(void *arg)
{
	Unpacker   *unpacker = arg;

	if (unpacker->open)
		inflateEnd(&unpacker->stream);
	unpacker->open = false;
}

/* rail_tree(document bytea, OUT tree jsonb, OUT removed integer) */
Datum
crm_shipping_rail_tree(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "crm rail reply", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(work);
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	JsonbParseState *state = NULL;
	Element    *root;
	JsonbValue *tree;
	char	   *document;
	int			length;
	int			removed;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function crm.rail_tree() called in a context that does not accept its row type"),
				 errhint("Call it as the extension declares it: SELECT * FROM crm.rail_tree().")));
	document = as_utf8(bytes, &length);
	document = clean(document, length, &length, &removed);
	root = read_document(document, length);

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	emit(&state, root, true);
	tree = pushJsonbValue(&state, WJB_END_OBJECT, NULL);

	MemoryContextSwitchTo(outer);
	values[0] = JsonbPGetDatum(JsonbValueToJsonb(tree));
	values[1] = Int32GetDatum(removed);
	MemoryContextDelete(work);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* rail_unpack(packed bytea, max_bytes integer) RETURNS bytea */
Datum
crm_shipping_rail_unpack(PG_FUNCTION_ARGS)
{
	bytea	   *packed = PG_GETARG_BYTEA_PP(0);
	int			limit = PG_GETARG_INT32(1);
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "crm rail unpack", ALLOCSET_DEFAULT_SIZES);
	Unpacker   *unpacker = MemoryContextAllocZero(work, sizeof(Unpacker));
	StringInfoData out;
	int			code = Z_OK;

	if (limit < 1 || limit > MAX_UNPACKED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot unpack at most %d bytes", limit),
				 errhint("Give 1 to %d.", MAX_UNPACKED)));
	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	unpacker->callback.func = unpacker_release;
	unpacker->callback.arg = unpacker;
	MemoryContextRegisterResetCallback(work, &unpacker->callback);
	unpacker->stream.next_in = (Bytef *) VARDATA_ANY(packed);
	unpacker->stream.avail_in = VARSIZE_ANY_EXHDR(packed);
	if (inflateInit2(&unpacker->stream, 15 + 32) != Z_OK)	/* gzip or zlib, by the head */
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("zlib could not start")));
	unpacker->open = true;
	while (code == Z_OK)
	{
		int			got;

		CHECK_FOR_INTERRUPTS();
		enlargeStringInfo(&out, 65536);
		unpacker->stream.next_out = (Bytef *) out.data + out.len;
		unpacker->stream.avail_out = 65536;
		code = inflate(&unpacker->stream, Z_NO_FLUSH);
		got = 65536 - unpacker->stream.avail_out;
		out.len += got;
		if (out.len - VARHDRSZ > limit)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("unpacked it is longer than %d bytes", limit)));
		if (code == Z_BUF_ERROR || (code == Z_OK && got == 0 && unpacker->stream.avail_in == 0))
			break;
	}
	if (code != Z_STREAM_END)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("what was packed cannot be unpacked: %s",
						unpacker->stream.msg ? unpacker->stream.msg : "it is not whole")));
	MemoryContextDelete(work);
	SET_VARSIZE(out.data, out.len);
	PG_RETURN_BYTEA_P(out.data);
}

/* ---- bytes ------------------------------------------------------------- */

static char *
as_utf8(bytea *bytes, int *length)
{
	char	   *from = VARDATA_ANY(bytes);
	char	   *to;

	*length = VARSIZE_ANY_EXHDR(bytes);
	/* a zero byte is no text in either */
	if (memchr(from, 0, *length) == NULL && pg_verify_mbstr(PG_UTF8, from, *length, true))
		return from;
	pg_verify_mbstr(PG_WIN1251, from, *length, false);
	to = (char *) pg_do_encoding_conversion((unsigned char *) from, *length, PG_WIN1251, PG_UTF8);
	*length = strlen(to);
	return to;
}

/* Without a byte order mark, the declaration, and characters that XML forbids. */
static char *
clean(const char *from, int length, int *clean_length, int *removed)
{
	const char *end = from + length;
	char	   *to = MemoryContextAllocHuge(CurrentMemoryContext, (Size) length + 1);
	char	   *put = to;

	*removed = 0;
	if (length >= 3 && memcmp(from, "\xEF\xBB\xBF", 3) == 0)
		from += 3;
	while (from < end && (*from == ' ' || *from == '\t' || *from == '\r' || *from == '\n'))
		from++;
	if (end - from > 5 && memcmp(from, "<?xml", 5) == 0)
	{
		const char *close = memchr(from, '>', end - from);

		if (close != NULL)
			from = close + 1;
	}
	while (from < end)
	{
		unsigned char c = *from;
		bool		allowed = true;

		if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
		{
			from++;
			++*removed;
		}
		else if (c == 0xEF && end - from >= 3 && (unsigned char) from[1] == 0xBF && (unsigned char) from[2] >= 0xBE)
		{
			from += 3;			/* U+FFFE, U+FFFF */
			++*removed;
		}
		else if (c == '&' && end - from > 3 && from[1] == '#')
		{
			int			n = reference(from, end, &allowed);

			if (allowed)
			{
				memcpy(put, from, n);
				put += n;
			}
			else
				++*removed;
			from += n;
		}
		else
			*put++ = *from++;
	}
	*put = '\0';
	*clean_length = put - to;
	return to;
}

/* How long a reference to a character is, and whether XML allows that character. */
static int
reference(const char *at, const char *end, bool *allowed)
{
	const char *s = at + 2;
	bool		hex = *s == 'x';
	uint32		code = 0;

	if (hex)
		s++;
	for (; s < end && s - at < 12 && isxdigit((unsigned char) *s); s++)
		code = code * (hex ? 16 : 10) + (*s <= '9' ? *s - '0' : (*s | 0x20) - 'a' + 10);
	if (s >= end || *s != ';')
	{
		*allowed = true;		/* let the parser say what is wrong */
		return 1;
	}
	*allowed = !((code < 0x20 && code != 9 && code != 10 && code != 13) || (code >= 0xD800 && code <= 0xDFFF)
				 || code == 0xFFFE || code == 0xFFFF || code > 0x10FFFF);
	return s + 1 - at;
}

/* ---- the document ------------------------------------------------------ */

static void
complain(void *arg, const char *message, xmlParserSeverities severity, xmlTextReaderLocatorPtr where)
{
	Reader	   *reader = arg;

	if (reader->words[0] == '\0' && (severity == XML_PARSER_SEVERITY_ERROR || severity == XML_PARSER_SEVERITY_VALIDITY_ERROR))
	{
		strlcpy(reader->words, message, sizeof(reader->words));
		for (char *s = reader->words; *s; s++)
			if (*s == '\n')
				*s = ' ';
		for (int n = strlen(reader->words); n > 0 && reader->words[n - 1] == ' '; n--)
			reader->words[n - 1] = '\0';
		reader->line = xmlTextReaderLocatorLineNumber(where);
	}
}

static Element *
read_document(const char *document, int length)
{
	Reader	   *reader = palloc0(sizeof(Reader));
	Element    *open[MAX_DEPTH + 1];
	Element    *root = NULL;
	int			depth = 0;
	int			count = 0;
	int			turn = 0;
	int			code;

	reader->callback.func = reader_release;
	reader->callback.arg = reader;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &reader->callback);
	/* HUGE: a whole snapshot is one text within the text of the envelope; we bound depth and number ourselves */
	reader->xml = xmlReaderForMemory(document, length, NULL, "UTF-8", XML_PARSE_NONET | XML_PARSE_HUGE | XML_PARSE_NOWARNING);
	if (reader->xml == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("libxml2 could not start")));
	xmlTextReaderSetErrorHandler(reader->xml, complain, reader);
	while ((code = xmlTextReaderRead(reader->xml)) == 1)
	{
		int			kind = xmlTextReaderNodeType(reader->xml);

		if (++turn % 1000 == 0)
			CHECK_FOR_INTERRUPTS();
		if (kind == XML_READER_TYPE_DOCUMENT_TYPE || kind == XML_READER_TYPE_ENTITY_REFERENCE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_XML_DOCUMENT),
					 errmsg("the document has a document type or entities of its own"),
					 errdetail("They could grow without end or name files, so such a document is not read.")));
		if (kind == XML_READER_TYPE_ELEMENT)
		{
			bool		empty = xmlTextReaderIsEmptyElement(reader->xml) == 1;
			Element    *element;

			if (++count > MAX_ELEMENTS)
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("the document has more than %d elements", MAX_ELEMENTS)));
			if (depth >= MAX_DEPTH)
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("the document is deeper than %d elements", MAX_DEPTH)));
			element = add_element(depth > 0 ? open[depth - 1] : NULL, (const char *) xmlTextReaderConstLocalName(reader->xml));
			if (root == NULL)
				root = element;
			copy_value(element, reader->xml);
			if (!empty)
				open[depth++] = element;
		}
		else if (kind == XML_READER_TYPE_END_ELEMENT && depth > 0)
			depth--;
		else if ((kind == XML_READER_TYPE_TEXT || kind == XML_READER_TYPE_CDATA) && depth > 0)
		{
			Element    *element = open[depth - 1];

			if (element->text.data == NULL)
				initStringInfo(&element->text);
			appendStringInfoString(&element->text, (const char *) xmlTextReaderConstValue(reader->xml));
		}
	}
	if (code != 0 || root == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_XML_DOCUMENT),
				 errmsg("this is no XML document"),
				 errdetail("%s (line %d).", reader->words[0] ? reader->words : "It is empty or breaks off", reader->line)));
	reader_release(reader);
	return root;
}

static Element *
add_element(Element *parent, const char *name)
{
	Element    *element = palloc0(sizeof(Element));

	element->name = asc_tolower(name, strlen(name));
	if (parent != NULL)
	{
		if (parent->nchildren == parent->room)
		{
			parent->room = parent->room ? parent->room * 2 : 4;
			parent->children = parent->children
				? repalloc_huge(parent->children, parent->room * sizeof(Element *))
				: palloc(parent->room * sizeof(Element *));
		}
		element->order = parent->nchildren;
		parent->children[parent->nchildren++] = element;
	}
	return element;
}

static void
copy_value(Element *element, xmlTextReaderPtr xml)
{
	int			more = xmlTextReaderMoveToFirstAttribute(xml);

	while (more == 1)
	{
		if (pg_strcasecmp((const char *) xmlTextReaderConstLocalName(xml), "value") == 0)
			element->value = pstrdup((const char *) xmlTextReaderConstValue(xml));
		more = xmlTextReaderMoveToNextAttribute(xml);
	}
	xmlTextReaderMoveToElement(xml);
}

/* ---- the tree ---------------------------------------------------------- */

static int
by_name(const void *a, const void *b)
{
	const Element *one = *(Element *const *) a;
	const Element *other = *(Element *const *) b;
	int			order = strcmp(one->name, other->name);

	return order != 0 ? order : one->order - other->order;
}

static void
push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value;

	if (text == NULL)
		value.type = jbvNull;
	else
	{
		char	   *ours = pg_any_to_server(text, strlen(text), PG_UTF8);

		value.type = jbvString;
		value.val.string.val = ours;
		value.val.string.len = strlen(ours);
	}
	pushJsonbValue(state, token, &value);
}

/* The text without blanks around it; NULL where nothing is left. */
static char *
trimmed(char *text)
{
	char	   *end;

	if (text == NULL)
		return NULL;
	while (isspace((unsigned char) *text))
		text++;
	for (end = text + strlen(text); end > text && isspace((unsigned char) end[-1]); end--)
		;
	*end = '\0';
	return *text ? text : NULL;
}

/* Writes one element: its key if it stands in an object, then its value. */
static JsonbValue *
emit(JsonbParseState **state, Element *element, bool within)
{
	check_stack_depth();
	if (within)
		push_text(state, WJB_KEY, element->name);
	if (element->nchildren == 0)
	{
		push_text(state, within ? WJB_VALUE : WJB_ELEM, trimmed(element->value ? element->value : element->text.data));
		return NULL;
	}
	qsort(element->children, element->nchildren, sizeof(Element *), by_name);
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	if (element->value != NULL)
	{
		push_text(state, WJB_KEY, "@value");
		push_text(state, WJB_VALUE, trimmed(element->value));
	}
	for (int i = 0; i < element->nchildren;)
	{
		int			last = i + 1;

		while (last < element->nchildren && strcmp(element->children[last]->name, element->children[i]->name) == 0)
			last++;
		if (last == i + 1)
			emit(state, element->children[i], true);
		else
		{
			push_text(state, WJB_KEY, element->children[i]->name);
			pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
			for (int j = i; j < last; j++)
				emit(state, element->children[j], false);
			pushJsonbValue(state, WJB_END_ARRAY, NULL);
		}
		i = last;
	}
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}
