#include "postgres.h"
#include "core/slots.h"
void crm_slots_request(void) {}
void crm_slots_startup(void) {}
void crm_slots_wake(Oid dboid) {}
void crm_slots_poke_launcher(void) {}
void crm_utility_init(void) {}
