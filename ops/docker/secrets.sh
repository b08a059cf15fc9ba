#!/bin/sh
# Make the secrets that docker-compose.yml names, once: what is there already stays as it is.
#
# The folder is closed to everybody else on this machine. The files in it are readable, for each
# container reads its own as a user of its own, and a file stands in a container with its mode.
set -eu
umask 022
cd "$(dirname "$0")/../.."
mkdir -p secrets
chmod 700 secrets

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

keep() {
  [ -e "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"
}

keep postgres_password "$(random)"
keep database_url "postgresql://hookline:$(cat secrets/postgres_password)@postgres:5432/hookline"
keep valkey.conf "requirepass $(random)"
keep redis_url "redis://:$(cut -d ' ' -f 2 secrets/valkey.conf)@valkey:6379/0"
keep webhook_secrets "whsec_$(random)"
keep retired_secrets ""
keep gatekeeper_tokens "$(random)"
keep grafana_password "$(random)"
