# Which C files make which library. crm is preloaded and links libc only; the heavy libraries are loaded
# by the workers (crm_worker) or by a backend at the first call of a function that needs them.

LIBRARIES := crm crm_worker crm_text crm_sheet crm_kpi

crm_text_sources   := src/party/phone.cpp src/party/recurrence.c src/message/mime.c
crm_sheet_sources  := $(wildcard src/xlsx/*.c) src/shipping/rail_reply.c
crm_kpi_sources    := src/kpi/ids.c
crm_worker_sources := $(wildcard workers/*.c)
crm_sources        := $(filter-out $(crm_text_sources) $(crm_sheet_sources) $(crm_kpi_sources),$(wildcard src/*/*.c))

crm_link           := -lm
crm_worker_include := $(shell pkg-config --cflags libcurl libmicrohttpd libpq 2>/dev/null)
crm_worker_link    := -lcurl -lmicrohttpd -lpq
crm_text_include   := $(shell pkg-config --cflags gmime-3.0 libical 2>/dev/null)
crm_text_link      := -lphonenumber $(shell pkg-config --libs gmime-3.0 2>/dev/null) -lical
crm_sheet_include  := $(shell pkg-config --cflags libzip libxml-2.0 2>/dev/null)
crm_sheet_link     := -lxlsxwriter $(shell pkg-config --libs libzip libxml-2.0 zlib 2>/dev/null)
crm_kpi_link       := -lroaring

objects_of = $(patsubst %.cpp,%.cpp.o,$(patsubst %.c,%.o,$(1)))
$(foreach l,$(LIBRARIES),$(eval $(l)_objects := $(call objects_of,$($(l)_sources))))
OBJECTS := $(foreach l,$(LIBRARIES),$($(l)_objects))
