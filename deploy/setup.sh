#!/bin/sh
# Prepares a machine for `make`: the virtual environment, and RabbitMQ where the tests find none.
#   deploy/setup.sh venv       .venv with renewd and the development tools
#   deploy/setup.sh rabbitmq   the rabbitmq-server package, installed but not started
# Asks nothing, says in one line what would help when it cannot go on, and may be run again at any time.
set -eu
cd "$(dirname "$0")/.."

policy=/usr/sbin/policy-rc.d
kept=$policy.renewd-kept

fail() {
  echo "setup: $*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
  command -v apt-get >/dev/null 2>&1 || return 1
  [ "$(id -u)" = 0 ] || sudo -n true >/dev/null 2>&1
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

apt_install() {
  echo "setup: installing $* with apt-get" >&2
  apt_get install -y --no-install-recommends "$@" && return 0
  # The package lists of a fresh machine are empty or old.
  apt_get update && apt_get install -y --no-install-recommends "$@"
}

find_python() {
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

prepare_venv() {
  if ! python=$(find_python); then
    may_install || fail "no Python 3.11 or newer found: install python3 and python3-venv, or set PYTHON=/path/to/python3"
    apt_install python3 python3-venv || fail "apt-get could not install python3 python3-venv"
    python=$(find_python) || fail "this system's python3 is older than 3.11: set PYTHON=/path/to/python3.11"
  fi
  # An environment of another Python, or one whose Python is gone, is made anew.
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if ! [ -x ".venv/bin/python$version" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      package=python$version-venv
      may_install || fail "$python cannot make virtual environments: run 'apt-get install $package' as root"
      apt_install "$package" || fail "apt-get could not install $package"
    fi
    "$python" -m venv --clear .venv
  fi
  install="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet --no-input"
  $install --require-hashes -r requirements.lock
  # The build backend is in the lock too, so that nothing unlocked is fetched.
  $install --no-deps --no-index --no-build-isolation -e .
}

restore_policy() {
  if as_root test -e "$kept"; then as_root mv -f "$kept" "$policy"; else as_root rm -f "$policy"; fi
}

has_rabbitmq() {
  [ -n "${RENEWD_TEST_AMQP_URL:-}" ] || .venv/bin/python -m lab.servers rabbitmq-installed
}

prepare_rabbitmq() {
  has_rabbitmq && return 0
  may_install || fail "RabbitMQ is not installed: run 'apt-get install rabbitmq-server' as root, or set RENEWD_TEST_AMQP_URL"
  # The package would start a server on the standard ports; this keeps it from doing so.
  if as_root test -e "$policy" && ! as_root test -e "$kept"; then as_root mv "$policy" "$kept"; fi
  trap restore_policy EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  apt_install rabbitmq-server || fail "apt-get could not install rabbitmq-server"
}

case "${1:-}" in
  venv) prepare_venv ;;
  rabbitmq) prepare_rabbitmq ;;
  *) fail "usage: deploy/setup.sh venv|rabbitmq" ;;
esac
