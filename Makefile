# crm: the CRM for an ERP, living inside PostgreSQL.
# PGXS builds one module a Makefile; crm has five, listed in src/libraries.mk and built by the rule below.
# The version stands in crm.control only; the order of the rooms in src/rooms only.

EXTENSION := crm
VERSION   := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" crm.control)
ROOMS     := $(shell sed '/^\#/d' src/rooms)

include src/libraries.mk

SCRIPT  := crm--$(VERSION).sql
SQL     := $(wildcard $(foreach r,$(ROOMS),src/$(r)/*.sql)) \
           $(sort $(wildcard src/integration/kind/*.sql)) src/finish.sql
UPDATES := $(patsubst src/update/%.sql,crm--%.sql,$(filter-out %.triggers.sql,$(wildcard src/update/*.sql)))

DATA_built  := $(SCRIPT) $(UPDATES)
EXTRA_CLEAN := $(SCRIPT) $(UPDATES) $(LIBRARIES:=.so) $(OBJECTS) $(OBJECTS:.o=.d) build results output_iso

# What leaves a library stands in src/exports.map.
PG_CPPFLAGS := -Isrc -I. -DCRM_VERSION='"$(VERSION)"' -MMD -MP
PG_CFLAGS   := -fPIC -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-declaration-after-statement
PG_CXXFLAGS := -fPIC -Wall -Wextra -Wno-unused-parameter -Wno-register

with_llvm := no
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
endif

# ---- the libraries ---------------------------------------------------------------------------------

all: $(LIBRARIES:=.so) $(SCRIPT) $(UPDATES)

define library
$(1).so: $$($(1)_objects)
	$$(if $$(filter %.cpp.o,$$^),$$(CXX) $$(CXXFLAGS),$$(CC) $$(CFLAGS)) -shared -o $$@ $$(filter %.o,$$^) -Wl,--version-script=src/exports.map $$(LDFLAGS) $$(LDFLAGS_SL) $$($(1)_link)
$$($(1)_objects): override CPPFLAGS += $$($(1)_include)
endef
$(foreach l,$(LIBRARIES),$(eval $(call library,$(l))))

%.cpp.o: %.cpp
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -c -o $@ $<

$(OBJECTS): Makefile src/libraries.mk
$(LIBRARIES:=.so): src/exports.map
-include $(OBJECTS:.o=.d)

# ---- the scripts -----------------------------------------------------------------------------------

$(SCRIPT): $(SQL) src/rooms src/join crm.control
	src/join install > $@.tmp && mv $@.tmp $@

crm--%.sql: src/update/%.sql $(SQL) src/rooms src/join
	src/join update $* > $@.tmp && mv $@.tmp $@

install: install-libraries
.PHONY: install-libraries
install-libraries: $(LIBRARIES:=.so)
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(foreach l,$(LIBRARIES),$(INSTALL_SHLIB) $(l).so '$(DESTDIR)$(pkglibdir)/$(l).so' &&) true

uninstall: uninstall-libraries
.PHONY: uninstall-libraries
uninstall-libraries:
	rm -f $(foreach l,$(LIBRARIES),'$(DESTDIR)$(pkglibdir)/$(l).so')

# ---- what people type ------------------------------------------------------------------------------

.PHONY: help packages demo up down env test soak bench claims rules update-check indent reference
help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | sort | expand -t 16

packages:        ## install the Debian packages that are missing (root or sudo)
	@test/packages install

demo:            ## install what is missing, build, run the main job on real input, tell the story
	@test/demo/run demo

up:              ## the same system, left running
	@test/demo/run up

down:            ## stop it and leave nothing
	@test/demo/run down

env:             ## shell variables of the running system: eval "$$(make -s env)"
	@test/demo/run env

test:            ## regress, isolation and TAP tests on private clusters; ends with "N passed, N failed"
	@test/run

soak:            ## what repeats for hours: the same tests in their full numbers
	@CRM_SOAK=1 test/run

bench:           ## ratios against limits taken in the same run; ROW=09 runs one
	@bench/run $(ROW)

claims:          ## a line for each claim of claims.md, from the heads of tests and their last results
	@test/claims

rules:           ## house rules that a script can check
	@.ci/check

update-check:    ## fresh and updated databases have the same fingerprint
	@test/run 010_update

indent:          ## pgindent over our C files
	@.ci/indent

reference:       ## docs/reference.md from the COMMENTs of an installed extension
	@docs/make-reference
