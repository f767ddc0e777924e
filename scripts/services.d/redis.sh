# A Redis server, for `scripts/services`, which sources this and gives `$dir`, `fail`,
# `install_package`, `as_owner` and `owner`.

# Installs the server without starting the service that the package would make.
redis_install() {
    RUNLEVEL=1 install_package redis-server
}

redis_runs() {
    local pid
    pid=$(cat "$dir/redis/pid" 2>/dev/null) &&
        [[ $(ps -o comm= -p "$pid" 2>/dev/null) == redis-server* ]]
}

# Starts the server, where it was if it crashed. It keeps nothing on disk unless it is told to.
redis_start() {
    if redis_runs; then return; fi
    command -v redis-server >/dev/null || redis_install
    local home=$dir/redis port=
    mkdir -p "$home"
    if [[ $(id -u) == 0 ]]; then chown "$(owner)" "$home"; fi
    for _ in {1..20}; do
        port=$(cat "$home/port" 2>/dev/null || echo $((20000 + RANDOM % 10000)))
        as_owner redis-server --bind 127.0.0.1 --port "$port" --dir "$home" --daemonize yes \
            --pidfile "$home/pid" --logfile "$home/log" --save '' --appendonly no \
            --databases 64 >/dev/null
        if redis_answers "$home" "$port"; then
            echo "$port" >"$home/port"
            return
        fi
        if [[ -f $home/port ]]; then break; fi
    done
    fail "Redis does not start: $(tail -n5 "$home/log")"
}

# Whether the server of this folder listens, and not one of somebody else on the same port.
redis_answers() {
    local home=$1 port=$2
    for _ in {1..200}; do
        if ! redis_runs; then
            # It has not written its number yet, or ended because the port is taken.
            if grep -qs 'Could not create server TCP listening socket' "$home/log"; then
                rm -f "$home/log"
                return 1
            fi
        elif [[ $(redis-cli -p "$port" config get dir 2>/dev/null | tail -n1) == "$(cd "$home" && pwd -P)" ]]; then
            return
        fi
        sleep 0.05
    done
    return 1
}

redis_env() {
    echo "export GRISTMILL_TEST_REDIS=redis://127.0.0.1:$(cat "$dir/redis/port")"
}

redis_halt() { redis_end TERM; }

redis_crash() { redis_end KILL; }

redis_end() {
    if redis_runs; then
        local pid
        pid=$(cat "$dir/redis/pid")
        kill -"$1" "$pid"
        for _ in {1..600}; do
            if ! redis_runs; then break; fi
            sleep 0.05
        done
        if redis_runs; then fail "Redis does not end"; fi
    fi
    rm -f "$dir/redis/pid"
}
