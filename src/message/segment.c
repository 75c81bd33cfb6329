/*
 * segment.c
 *		How many parts an SMS text takes, by GSM 03.38 and UCS-2.
 *
 * A text whose every character is in the default alphabet (one septet) or in
 * its extension (two septets: escape and code) travels as GSM7; one character
 * outside of it makes the whole text UCS2.  A text that does not fit into one
 * part is cut into parts that lose six octets each to a header.  Parts are
 * filled greedily and a pair (escape and code, or two surrogates) is never
 * split, so the number of parts is not units divided by the size of a part.
 *
 * National shift tables are not used: gateways hardly ever agree on them.
 * The text is counted as it is given; composing it (NFC) is the caller's.
 *
 * This file must never call out of the server: it runs for every message.
 * There is no state, so no lock guards anything.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define GSM_SINGLE_UNITS	160
#define GSM_PART_UNITS		153
#define UCS_SINGLE_UNITS	70
#define UCS_PART_UNITS		67

/* One alphabet's tally while a text is read. */
typedef struct Tally
{
	int64		units;			/* units of the whole text */
	int64		parts;			/* parts, if the text needs several */
	int			filled;			/* units in the part being filled */
} Tally;

PG_FUNCTION_INFO_V1(crm_message_sms_segments);

static int	gsm_septets(pg_wchar c);
static void tally_add(Tally *tally, int units, int part_units);

/*
 * crm.sms_segments(body text) -> one row (encoding, units, parts)
 */
Datum
crm_message_sms_segments(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		TupleDesc	descriptor;

		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("crm.sms_segments must return a row"),
					 errhint("Create the function with the extension's own definition.")));
		call->tuple_desc = BlessTupleDesc(descriptor);
		call->max_calls = 1;
		MemoryContextSwitchTo(old);
	}

	call = SRF_PERCALL_SETUP();
	if (call->call_cntr < call->max_calls)
	{
		text	   *body = PG_GETARG_TEXT_PP(0);
		int			length = VARSIZE_ANY_EXHDR(body);
		unsigned char *at;
		unsigned char *end;
		Tally		gsm = {0, 0, 0};
		Tally		ucs = {0, 0, 0};
		bool		is_gsm = true;
		Datum		values[3];
		bool		nulls[3] = {false, false, false};
		Tally	   *taken;
		int64		parts;

		at = (unsigned char *) VARDATA_ANY(body);
		if (GetDatabaseEncoding() != PG_UTF8)
		{
			at = (unsigned char *) pg_server_to_any((char *) at, length, PG_UTF8);
			if (at != (unsigned char *) VARDATA_ANY(body))
				length = strlen((char *) at);
		}
		end = at + length;

		while (at < end)
		{
			int			bytes = pg_utf_mblen(at);
			pg_wchar	c;

			if (bytes > end - at)
				break;			/* stored text is valid, so this is never met */
			c = utf8_to_unicode(at);
			at += bytes;

			if (is_gsm)
			{
				int			septets = gsm_septets(c);

				if (septets == 0)
					is_gsm = false;
				else
					tally_add(&gsm, septets, GSM_PART_UNITS);
			}
			tally_add(&ucs, c > 0xFFFF ? 2 : 1, UCS_PART_UNITS);

			if ((ucs.units & 0xFFFF) == 0)
				CHECK_FOR_INTERRUPTS();
		}

		taken = is_gsm ? &gsm : &ucs;
		if (taken->units == 0)
			parts = 0;
		else if (taken->units <= (is_gsm ? GSM_SINGLE_UNITS : UCS_SINGLE_UNITS))
			parts = 1;
		else
			parts = taken->parts;

		values[0] = CStringGetTextDatum(is_gsm ? "GSM7" : "UCS2");
		values[1] = Int32GetDatum((int32) taken->units);
		values[2] = Int32GetDatum((int32) parts);
		SRF_RETURN_NEXT(call,
						HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(call);
}

/*
 * Septets that a character takes in the default alphabet and its extension;
 * 0 if it is in neither.
 */
static int
gsm_septets(pg_wchar c)
{
	if (c < 0x80)
	{
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= ' ' && c <= '?'))
			return 1;
		switch (c)
		{
			case '\n':
			case '\r':
			case '@':
			case '_':
				return 1;
			case '\f':
			case '[':
			case '\\':
			case ']':
			case '^':
			case '{':
			case '|':
			case '}':
			case '~':
				return 2;
			default:
				return 0;		/* backtick, tab and other controls */
		}
	}
	switch (c)
	{
		case 0x00A1:			/* inverted exclamation mark */
		case 0x00A3:			/* pound */
		case 0x00A4:			/* currency sign */
		case 0x00A5:			/* yen */
		case 0x00A7:			/* section */
		case 0x00BF:			/* inverted question mark */
		case 0x00C4:			/* A with diaeresis */
		case 0x00C5:			/* A with ring */
		case 0x00C6:			/* AE */
		case 0x00C7:			/* C with cedilla; the small one is not there */
		case 0x00C9:			/* E with acute */
		case 0x00D1:			/* N with tilde */
		case 0x00D6:			/* O with diaeresis */
		case 0x00D8:			/* O with stroke */
		case 0x00DC:			/* U with diaeresis */
		case 0x00DF:			/* sharp s */
		case 0x00E0:			/* a with grave */
		case 0x00E4:			/* a with diaeresis */
		case 0x00E5:			/* a with ring */
		case 0x00E6:			/* ae */
		case 0x00E8:			/* e with grave */
		case 0x00E9:			/* e with acute */
		case 0x00EC:			/* i with grave */
		case 0x00F1:			/* n with tilde */
		case 0x00F2:			/* o with grave */
		case 0x00F6:			/* o with diaeresis */
		case 0x00F8:			/* o with stroke */
		case 0x00F9:			/* u with grave */
		case 0x00FC:			/* u with diaeresis */
		case 0x0393:			/* Greek gamma */
		case 0x0394:			/* delta */
		case 0x0398:			/* theta */
		case 0x039B:			/* lambda */
		case 0x039E:			/* xi */
		case 0x03A0:			/* pi */
		case 0x03A3:			/* sigma */
		case 0x03A6:			/* phi */
		case 0x03A8:			/* psi */
		case 0x03A9:			/* omega */
			return 1;
		case 0x20AC:			/* euro */
			return 2;
		default:
			return 0;
	}
}

/*
 * Put a character of so many units into the part being filled, or into a new
 * one where it does not fit.
 */
static void
tally_add(Tally *tally, int units, int part_units)
{
	if (tally->parts == 0 || tally->filled + units > part_units)
	{
		tally->parts++;
		tally->filled = 0;
	}
	tally->filled += units;
	tally->units += units;
}
