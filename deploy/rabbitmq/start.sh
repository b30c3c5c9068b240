#!/bin/sh
# Starts the image's server with the password of the secret; the server reads it from its environment only.
set -eu
RABBITMQ_DEFAULT_PASS=$(cat /run/secrets/rabbitmq_password)
export RABBITMQ_DEFAULT_PASS
exec docker-entrypoint.sh rabbitmq-server
