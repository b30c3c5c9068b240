#!/bin/sh
# Makes the secrets of deploy/compose.yaml, each in a file of its own under deploy/secrets/: random passwords, the URLs
# they are part of, the sandbox gateway and the mail catcher. Edit `gateways` and `smtp_url` for your own.
# What is there already is kept, so it may be run again; to change a password, change it in its server too.
set -eu
umask 022
cd "$(dirname "$0")/secrets"
# The files must be readable inside containers, by users of other numbers; the directory keeps them
# from everybody else on this machine.
chmod 700 .

random() {
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

keep_or_write() {
  if [ -s "$1" ]; then
    echo "secrets: $1 kept"
  else
    printf '%s' "$2" >"$1"
    echo "secrets: $1 written"
  fi
}

for name in postgres_password database_password grafana_database_password grafana_admin_password \
  rabbitmq_password; do
  keep_or_write "$name" "$(random)"
done
keep_or_write database_url "postgresql://renewd:$(cat database_password)@postgres:5432/renewd"
keep_or_write amqp_url "amqp://renewd:$(cat rabbitmq_password)@rabbitmq:5672/renewd"
keep_or_write gateways "{\"sandbox\": {\"adapter\": \"sandbox\", \"base_url\": \"http://sandbox:9470\", \"api_key\": \"$(random)\"}}"
keep_or_write smtp_url "smtp://mail:1025"
