/*-------------------------------------------------------------------------
 *
 * sha256.c
 *	  SHA-256 (FIPS 180-4) for call-backs of foreign libraries.
 *
 * The server's own hashing allocates, registers with a resource owner and may
 * raise an error; the listener compares tokens inside a call-back of
 * libmicrohttpd, where none of that may happen.  This one only computes.
 * No state, so no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bswap.h"

#include "workers/sha256.h"

#define BLOCK 64

static const uint32 round_constant[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static inline uint32
turn(uint32 word, int bits)
{
	return (word >> bits) | (word << (32 - bits));
}

static void
compress(uint32 state[8], const uint8 block[BLOCK])
{
	uint32		w[64];
	uint32		v[8];

	for (int i = 0; i < 16; i++)
	{
		uint32		big_endian;

		memcpy(&big_endian, block + 4 * i, 4);
		w[i] = pg_ntoh32(big_endian);
	}
	for (int i = 16; i < 64; i++)
	{
		uint32		a = w[i - 15];
		uint32		b = w[i - 2];

		w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ (a >> 3)) +
			w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ (b >> 10));
	}
	memcpy(v, state, sizeof(v));
	for (int i = 0; i < 64; i++)
	{
		uint32		t1 = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) +
		((v[4] & v[5]) ^ (~v[4] & v[6])) + round_constant[i] + w[i];
		uint32		t2 = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) +
		((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(uint32));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		state[i] += v[i];
}

void
crm_sha256(const void *data, size_t length, uint8 result[CRM_SHA256_BYTES])
{
	uint32		state[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
	};
	const uint8 *at = data;
	size_t		left = length;
	uint8		tail[2 * BLOCK] = {0};
	size_t		tail_length;
	uint64		bits = pg_hton64((uint64) length * 8);

	for (; left >= BLOCK; left -= BLOCK, at += BLOCK)
		compress(state, at);
	memcpy(tail, at, left);
	tail[left] = 0x80;
	tail_length = left + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
	memcpy(tail + tail_length - 8, &bits, 8);
	compress(state, tail);
	if (tail_length > BLOCK)
		compress(state, tail + BLOCK);
	for (int i = 0; i < 8; i++)
	{
		uint32		big_endian = pg_hton32(state[i]);

		memcpy(result + 4 * i, &big_endian, 4);
	}
}
