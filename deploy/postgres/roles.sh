#!/bin/sh
# Run once, by the image's first start: the roles, and the database with its owner. The owner is no superuser, and
# Grafana's role owns nothing: grants.sql says what it reads.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set renewd_password `cat "${SECRETS:-/run/secrets}/database_password"`
\set grafana_password `cat "${SECRETS:-/run/secrets}/grafana_database_password"`
CREATE ROLE renewd LOGIN PASSWORD :'renewd_password';
CREATE ROLE grafana LOGIN PASSWORD :'grafana_password' CONNECTION LIMIT 10;
ALTER ROLE grafana SET default_transaction_read_only = on;
-- A dashboard left open must not hold up a vacuum, nor a wide time range the disks.
ALTER ROLE grafana SET statement_timeout = '10s';
ALTER ROLE grafana SET idle_in_transaction_session_timeout = '10s';
CREATE DATABASE renewd OWNER renewd;
REVOKE ALL ON DATABASE renewd FROM PUBLIC;
GRANT CONNECT ON DATABASE renewd TO grafana;
SQL
