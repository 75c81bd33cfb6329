/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Tokens of links.
 *
 * Letters and digits only: programs that find links in a text end them at
 * some of the other characters.  No lock, no state; a token is never logged
 * and never part of an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#define TOKEN_LENGTH	22		/* 62 ^ 22 is more than 2 ^ 130 */

PG_FUNCTION_INFO_V1(crm_integration_link_token);

Datum
crm_integration_link_token(PG_FUNCTION_ARGS)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	char		token[TOKEN_LENGTH];
	int			length = 0;

	while (length < TOKEN_LENGTH)
	{
		uint8		random[32];

		if (!pg_strong_random(random, sizeof(random)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("the system gives no random bytes for a token")));
		for (int i = 0; i < sizeof(random) && length < TOKEN_LENGTH; i++)
			if (random[i] < 4 * 62) /* the rest would favour some letters */
				token[length++] = letters[random[i] % 62];
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(token, TOKEN_LENGTH));
}
