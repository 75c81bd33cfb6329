/*-------------------------------------------------------------------------
 *
 * sha256.h
 *	  SHA-256 for call-backs of foreign libraries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_SHA256_H
#define CRM_SHA256_H

#include "postgres.h"

#define CRM_SHA256_BYTES 32

extern void crm_sha256(const void *data, size_t length, uint8 result[CRM_SHA256_BYTES]);

#endif							/* CRM_SHA256_H */
