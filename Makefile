# Each target is one command on a fresh machine: it makes .venv and installs what is missing.

PYTHON := .venv/bin/python
TOOLS := wireguard-tools iproute2 iperf3 iputils-ping nftables iptables tcpdump ethtool procps \
	containernetworking-plugins dnsmasq-base
# The cipher for whole batches, where Debian has it.
ifeq ($(shell uname -m),x86_64)
TOOLS += $(shell . /etc/os-release && [ "$${VERSION_ID:-99}" -lt 13 ] && echo libipsec-mb1 || echo libipsec-mb2)
endif
DEMO_TOOLS := iproute2 nftables containernetworking-plugins

CHAOS := $(if $(SEED),WGPY_SEED=$(SEED)) $(if $(ROUNDS),WGPY_ROUNDS=$(ROUNDS))

.PHONY: help demo picture test endure chaos guests scale check release interop bench docs links dev tools root clean

help:
	@echo "make demo     a cluster on this machine, shown at work in a minute or two (root);"
	@echo "              TUNNEL=1: only a tunnel between two network namespaces"
	@echo "make picture  the demo's last screen, into docs/demo.svg (root)"
	@echo "make test     all tests but the long ones, which are below (root)"
	@echo "make endure   the agent through outages of the API server and on old hosts, 20 minutes (root)"
	@echo "make chaos    everything at random on six nodes; SEED=N plays a run again, ROUNDS=N (root)"
	@echo "make guests   a cluster in a VM, on its kernel's data plane and on ours, half an hour (root)"
	@echo "make scale    an agent among 1,000 and 5,000 nodes, into docs/scale.md (root)"
	@echo "make check    lint, types, layering and unit tests (no root)"
	@echo "make release  wheel and sdist into dist, after tries on fresh systems, 10 minutes (root)"
	@echo "make interop  against other implementations of WireGuard, into interop/matrix.md (root)"
	@echo "make bench    each stage, and side by side with wireguard-go, into docs/bench (root)"
	@echo "make docs     the documentation, into docs/_build (no root)"

ifeq ($(TUNNEL),1)
demo: root
	@sh scripts/venv.sh
	@$(PYTHON) -m wgpy demo
else
demo: root
	@sh scripts/apt.sh $(DEMO_TOOLS)
	@sh scripts/venv.sh demo
	@$(PYTHON) -P -m agent demo $(DEMO)
endif

picture:
	@$(MAKE) --no-print-directory demo DEMO="--svg docs/demo.svg"

check: dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PYTHON) -m pytest -q -n auto -m "not system"

test: root dev tools
	@sh scripts/tests.sh -n auto --dist loadgroup -m "not alone and not endurance and not release"
	@sh scripts/tests.sh -m alone

endure: root dev tools
	@$(PYTHON) -m pytest -v -m endurance tests/cluster/test_agent_outages.py \
		tests/cluster/test_agent_old_hosts.py

chaos: root dev tools
	@$(CHAOS) $(PYTHON) -m pytest -v -s tests/cluster/test_agent_chaos.py

guests: root dev tools
	@$(PYTHON) -m pytest -v tests/system/test_agent_mixed.py

scale: root dev tools
	@$(PYTHON) -m tests.scale $(SCALE)

release: root dev tools
	@$(PYTHON) -m pytest -v -m "release or not system" tests/release
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PYTHON) -m build

interop: root dev tools
	@$(PYTHON) -m interop matrix

bench: root dev tools
	@$(PYTHON) -m interop.bench $(BENCH)
	@$(PYTHON) -m tests.bench.stages $(if $(BENCH),,docs/bench)

dev:
	@sh scripts/venv.sh dev

tools:
	@sh scripts/apt.sh $(TOOLS)

root:
	@sh scripts/root.sh

docs: dev
	@$(PYTHON) -m sphinx -q -W --keep-going docs docs/_build
	@echo "docs/_build/index.html"

# Those to other places: needs the internet, so it is no part of `make check`.
links: dev
	@$(PYTHON) -m sphinx -q -b linkcheck docs docs/_build/links

clean:
	rm -rf .venv build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache
