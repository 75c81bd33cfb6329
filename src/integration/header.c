/*-------------------------------------------------------------------------
 *
 * header.c
 *	  Header lines of replies and of inbound requests.
 *
 * The lines come from strangers: nothing here may raise an error for them.
 * There is no state, so no lock guards anything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(crm_integration_header_value);

Datum
crm_integration_header_value(PG_FUNCTION_ARGS)
{
	text	   *headers = PG_GETARG_TEXT_PP(0);
	text	   *name = PG_GETARG_TEXT_PP(1);
	const char *at = VARDATA_ANY(headers);
	const char *end = at + VARSIZE_ANY_EXHDR(headers);
	int			name_length = VARSIZE_ANY_EXHDR(name);
	const char *found = NULL;
	int			found_length = 0;

	while (at < end)
	{
		const char *stop = memchr(at, '\n', end - at);
		const char *last;

		if (stop == NULL)
			stop = end;
		last = stop;
		if (last > at && last[-1] == '\r')
			last--;
		if (name_length > 0 && last - at > name_length && at[name_length] == ':' &&
			pg_strncasecmp(at, VARDATA_ANY(name), name_length) == 0)
		{
			const char *value = at + name_length + 1;

			while (value < last && (*value == ' ' || *value == '\t'))
				value++;
			while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
				last--;
			found = value;
			found_length = last - value;
		}
		at = stop + 1;
	}
	if (found == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(found, found_length));
}
