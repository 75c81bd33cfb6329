/*-------------------------------------------------------------------------
 *
 * party.h
 *	  What upper rooms may ask of party in C: whether numbers are a place on
 *	  the earth. Nothing here reads a table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_PARTY_H
#define CRM_PARTY_H

#include "postgres.h"

/* The largest radius of a place, metres. */
#define CRM_MAX_RADIUS_M 100000.0

/* Each returns its argument or raises 22003 with the value and a hint. */
extern double crm_checked_lon(double lon);
extern double crm_checked_lat(double lat);
extern double crm_checked_radius(double radius_m);

#endif							/* CRM_PARTY_H */
