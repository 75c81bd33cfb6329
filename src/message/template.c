/*
 * template.c
 *		Fills {{variables}} of a message's template.
 *
 * A placeholder is {{name}} or, for a word that follows a number,
 * {{name|one|few|many}} (Russian: "vagon|vagona|vagonov") or
 * {{name|one|other}} (English: "wagon|wagons"), where the name's value is the
 * number and only the word is written.  Values come from one flat jsonb object
 * of texts and numbers and are inserted once: what stands in a value is never
 * read as a template.  The html variant escapes values, not the template.
 *
 * This file must never evaluate anything: there are no functions, loops or
 * conditions in a template.  There is no state, so no lock guards anything.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#define MAX_NAME	63			/* bytes of a variable's name */
#define MAX_FORMS	3			/* one, few, many */

/* Reads a template from its start to its end. */
typedef struct Reader
{
	const char *start;
	const char *at;
	const char *end;
} Reader;

/* One placeholder; all pointers lead into the template. */
typedef struct Placeholder
{
	const char *name;
	int			name_length;
	int			forms;			/* 0 for a plain variable */
	const char *form[MAX_FORMS];
	int			form_length[MAX_FORMS];
} Placeholder;

PG_FUNCTION_INFO_V1(crm_message_template_fill);
PG_FUNCTION_INFO_V1(crm_message_template_fill_html);
PG_FUNCTION_INFO_V1(crm_message_template_variables);

static text *fill(text *template, Jsonb *vars, bool html);
static bool next_placeholder(Reader *reader, const char **literal, int *literal_length,
							 Placeholder *found);
static void syntax_problem(Reader *reader, const char *at, const char *what) pg_attribute_noreturn();
static void refuse_unknown(text *template, Jsonb *vars);
static const char *value_of(Jsonb *vars, const Placeholder *wanted, int *length);
static int	form_of(const Placeholder *wanted, const char *value, int length);
static void append_escaped(StringInfo to, const char *value, int length);

/*
 * crm.template_fill(template text, vars jsonb) -> text
 */
Datum
crm_message_template_fill(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(fill(PG_GETARG_TEXT_PP(0), PG_GETARG_JSONB_P(1), false));
}

/*
 * crm.template_fill_html(template text, vars jsonb) -> text
 */
Datum
crm_message_template_fill_html(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(fill(PG_GETARG_TEXT_PP(0), PG_GETARG_JSONB_P(1), true));
}

/*
 * crm.template_variables(template text) -> text[]
 *
 * Each name once, in the order of first use.  Raises what a fill would raise
 * for the template's form, so it is also the check when a template is saved.
 */
Datum
crm_message_template_variables(PG_FUNCTION_ARGS)
{
	text	   *template = PG_GETARG_TEXT_PP(0);
	Reader		reader;
	Placeholder found;
	const char *literal;
	int			literal_length;
	Datum	   *names = NULL;
	int			count = 0;
	int			room = 0;

	reader.start = reader.at = VARDATA_ANY(template);
	reader.end = reader.at + VARSIZE_ANY_EXHDR(template);
	while (next_placeholder(&reader, &literal, &literal_length, &found))
	{
		bool		known = false;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < count && !known; i++)
		{
			text	   *name = DatumGetTextPP(names[i]);

			known = VARSIZE_ANY_EXHDR(name) == found.name_length &&
				memcmp(VARDATA_ANY(name), found.name, found.name_length) == 0;
		}
		if (known)
			continue;
		if (count == room)
		{
			room = Max(16, room * 2);
			names = names ? repalloc(names, room * sizeof(Datum)) : palloc(room * sizeof(Datum));
		}
		names[count++] = PointerGetDatum(cstring_to_text_with_len(found.name, found.name_length));
	}
	if (count == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	PG_RETURN_ARRAYTYPE_P(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

static text *
fill(text *template, Jsonb *vars, bool html)
{
	Reader		reader;
	Placeholder found;
	const char *literal;
	int			literal_length;
	StringInfoData result;

	if (!JB_ROOT_IS_OBJECT(vars))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the variables of a template must be one JSON object"),
				 errhint("Write them as {\"name\": \"value\"}.")));

	initStringInfo(&result);
	reader.start = reader.at = VARDATA_ANY(template);
	reader.end = reader.at + VARSIZE_ANY_EXHDR(template);
	for (;;)
	{
		bool		more = next_placeholder(&reader, &literal, &literal_length, &found);
		const char *value;
		int			length;

		CHECK_FOR_INTERRUPTS();
		appendBinaryStringInfo(&result, literal, literal_length);
		if (!more)
			break;
		value = value_of(vars, &found, &length);
		if (value == NULL)
			refuse_unknown(template, vars);
		if (found.forms > 0)
		{
			int			chosen = form_of(&found, value, length);

			/* a form is a part of the template, so it is not escaped */
			appendBinaryStringInfo(&result, found.form[chosen], found.form_length[chosen]);
		}
		else if (html)
			append_escaped(&result, value, length);
		else
			appendBinaryStringInfo(&result, value, length);
	}
	return cstring_to_text_with_len(result.data, result.len);
}

/*
 * Give the literal text up to the next placeholder and that placeholder.
 * At the end of the template: the rest as the literal, and false.
 */
static bool
next_placeholder(Reader *reader, const char **literal, int *literal_length, Placeholder *found)
{
	const char *open = NULL;
	const char *close = NULL;
	const char *at;

	for (at = reader->at; at + 1 < reader->end; at++)
	{
		if (at[0] == '{' && at[1] == '{')
		{
			open = at;
			break;
		}
	}
	*literal = reader->at;
	if (open == NULL)
	{
		*literal_length = reader->end - reader->at;
		reader->at = reader->end;
		return false;
	}
	*literal_length = open - reader->at;

	for (at = open + 2; at < reader->end; at++)
	{
		if (at + 1 < reader->end && at[0] == '}' && at[1] == '}')
		{
			close = at;
			break;
		}
		if (at[0] == '{' || at[0] == '\n')
			break;
	}
	if (close == NULL)
		syntax_problem(reader, open, "is not closed");

	at = open + 2;
	while (at < close && *at == ' ')
		at++;
	found->name = at;
	while (at < close && ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '_' ||
						  (at > found->name && ((*at >= '0' && *at <= '9') || *at == '.'))))
		at++;
	found->name_length = at - found->name;
	while (at < close && *at == ' ')
		at++;
	if (found->name_length == 0 || (at < close && *at != '|'))
		syntax_problem(reader, open, "names no variable");
	if (found->name_length > MAX_NAME)
		syntax_problem(reader, open, "has a name of more than 63 characters");

	found->forms = 0;
	while (at < close)
	{
		const char *bar;

		at++;					/* over the bar */
		bar = memchr(at, '|', close - at);
		if (bar == NULL)
			bar = close;
		if (found->forms == MAX_FORMS)
			syntax_problem(reader, open, "has more than three forms of a word");
		found->form[found->forms] = at;
		found->form_length[found->forms] = bar - at;
		found->forms++;
		at = bar;
	}
	if (found->forms == 1)
		syntax_problem(reader, open, "has only one form of a word");
	reader->at = close + 2;
	return true;
}

static void
syntax_problem(Reader *reader, const char *at, const char *what)
{
	int			shown = pg_mbcliplen(at, reader->end - at, 40);

	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("a template's placeholder %s: \"%.*s\"", what, shown, at),
			 errdetail("It starts at character %d of the template.",
					   pg_mbstrlen_with_len(reader->start, at - reader->start) + 1),
			 errhint("Write {{name}}, or {{name|one|few|many}} for a word after a number (two forms in English).")));
}

/*
 * Raise the error for names that are not there, all of them at once.
 */
static void
refuse_unknown(text *template, Jsonb *vars)
{
	Reader		reader;
	Placeholder found;
	const char *literal;
	int			literal_length;
	StringInfoData unknown;
	StringInfoData known;
	JsonbIterator *each;
	JsonbValue	part;
	JsonbIteratorToken token;

	initStringInfo(&unknown);
	reader.start = reader.at = VARDATA_ANY(template);
	reader.end = reader.at + VARSIZE_ANY_EXHDR(template);
	while (next_placeholder(&reader, &literal, &literal_length, &found))
	{
		JsonbValue	slot;
		char	   *quoted;

		CHECK_FOR_INTERRUPTS();
		if (getKeyJsonValueFromContainer(&vars->root, found.name, found.name_length, &slot) != NULL)
			continue;
		quoted = psprintf("\"%.*s\"", found.name_length, found.name);
		if (strstr(unknown.data, quoted) == NULL)
			appendStringInfo(&unknown, "%s%s", unknown.len ? ", " : "", quoted);
		if (unknown.len > 1000)
			break;
	}

	initStringInfo(&known);
	each = JsonbIteratorInit(&vars->root);
	while ((token = JsonbIteratorNext(&each, &part, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_KEY && known.len < 2000)
			appendStringInfo(&known, "%s%.*s", known.len ? ", " : "",
							 part.val.string.len, part.val.string.val);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("a template names unknown variables: %s", unknown.data),
			 known.len ? errdetail("Known are: %s.", known.data) : errdetail("No variable is known here."),
			 errhint("Use one of the known variables, or let the event carry the value.")));
}

/*
 * A variable's value as text; NULL where there is no such name.  A JSON null
 * is an empty text.
 */
static const char *
value_of(Jsonb *vars, const Placeholder *wanted, int *length)
{
	JsonbValue	slot;
	JsonbValue *value;
	char	   *number;

	value = getKeyJsonValueFromContainer(&vars->root, wanted->name, wanted->name_length, &slot);
	if (value == NULL)
		return NULL;
	switch (value->type)
	{
		case jbvString:
			*length = value->val.string.len;
			return value->val.string.val;
		case jbvNumeric:
			number = DatumGetCString(DirectFunctionCall1(numeric_out,
														 NumericGetDatum(value->val.numeric)));
			*length = strlen(number);
			return number;
		case jbvNull:
			*length = 0;
			return "";
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of a template's variable \"%.*s\" is neither a text nor a number",
							wanted->name_length, wanted->name),
					 errhint("Let the event carry it as a text, in the words that a person should read.")));
	}
	return NULL;				/* keep the compiler quiet */
}

/*
 * Which form of a word stands after this number: 0 one, 1 few (or other),
 * 2 many.  A fraction takes the second form in both languages: "2,5 vagona",
 * "2.5 wagons".
 */
static int
form_of(const Placeholder *wanted, const char *value, int length)
{
	const char *at = value;
	const char *end = value + length;
	int			digits = 0;
	int			last = 0;		/* the last two digits of the whole part */
	bool		above = false;	/* there are digits above these two */
	bool		fraction = false;

	if (at < end && (*at == '-' || *at == '+'))
		at++;
	for (; at < end && *at >= '0' && *at <= '9'; at++)
	{
		if (last >= 10)
			above = true;
		last = last % 10 * 10 + (*at - '0');
		digits++;
	}
	if (digits > 0 && at + 1 < end && (*at == '.' || *at == ','))
	{
		for (at++; at < end && *at >= '0' && *at <= '9'; at++)
			fraction |= *at != '0';
	}
	if (digits == 0 || at < end)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the value of a template's variable \"%.*s\" is no number: \"%.*s\"",
						wanted->name_length, wanted->name,
						pg_mbcliplen(value, length, 40), value),
				 errhint("A word with forms follows a number: let the variable carry one.")));

	if (fraction)
		return 1;
	if (wanted->forms == 2)
		return last == 1 && !above ? 0 : 1;
	if (last / 10 == 1)
		return 2;
	if (last % 10 == 1)
		return 0;
	if (last % 10 >= 2 && last % 10 <= 4)
		return 1;
	return 2;
}

static void
append_escaped(StringInfo to, const char *value, int length)
{
	for (int i = 0; i < length; i++)
	{
		switch (value[i])
		{
			case '&':
				appendStringInfoString(to, "&amp;");
				break;
			case '<':
				appendStringInfoString(to, "&lt;");
				break;
			case '>':
				appendStringInfoString(to, "&gt;");
				break;
			case '"':
				appendStringInfoString(to, "&quot;");
				break;
			case '\'':
				appendStringInfoString(to, "&#39;");
				break;
			default:
				appendStringInfoCharMacro(to, value[i]);
				break;
		}
	}
}
