# One Kafka broker in KRaft mode, for `scripts/services`, which sources this and gives `$root`,
# `$dir`, `$set_up`, `say` and `fail`. The jars come from Maven once for each user and stay in a cache.

kafka_home=$dir/kafka
kafka_jars=${XDG_CACHE_HOME:-$HOME/.cache}/gristmill/kafka-4.1.0

# Copies the jars to the cache, whole or not at all.
kafka_install() {
    if [[ -d $kafka_jars ]]; then return; fi
    local parent=${kafka_jars%/*} new
    command -v mvn >/dev/null || fail "there is no mvn: scripts/require.sh test says how to get it"
    say "fetching Kafka's jars to $kafka_jars"
    mkdir -p "$parent"
    new=$(mktemp -d "$parent/kafka.XXXXXX")
    if ! mvn -q -B -f "$root/scripts/services.d/kafka.pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$new" </dev/null >&2; then
        rm -rf "$new"
        fail "Maven cannot fetch Kafka's jars"
    fi
    # Somebody else may have been quicker.
    mv -T "$new" "$kafka_jars" 2>/dev/null || rm -rf "$new"
}

# Java with little memory and a quick start, or as Kafka's own scripts start it.
kafka_java=(java -Xms64m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData)
if [[ $set_up == shipped ]]; then
    kafka_java=(java -server -Xms1g -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20
        -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent)
fi
kafka_java+=(-Dorg.apache.logging.log4j.level=INFO -cp "$kafka_jars/*")

# After a crash of the machine, the number may be that of another process.
kafka_runs() {
    local pid
    pid=$(cat "$kafka_home/pid" 2>/dev/null) &&
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$kafka_home/server.properties"
}

# A second rebalance must not wait for a first one's late comers, and nothing is synced: a crash of
# the broker costs nothing, one of the machine may.
kafka_configure() {
    local port=$1
    mkdir -p "$kafka_home"
    cat >"$kafka_home/server.properties" <<CONF
process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 10000))
advertised.listeners=BROKER://127.0.0.1:$port
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$((port + 10000))
log.dirs=$kafka_home/data
num.partitions=1
auto.create.topics.enable=true
delete.topic.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.ms=-1
CONF
    if [[ $set_up == test ]]; then kafka_small >>"$kafka_home/server.properties"; fi
    if [[ ! -d $kafka_home/data ]]; then
        local id
        # Before it comes what the program logs.
        id=$("${kafka_java[@]}" kafka.tools.StorageTool random-uuid | tail -n1)
        "${kafka_java[@]}" kafka.tools.StorageTool format --cluster-id "$id" \
            --config "$kafka_home/server.properties" >"$kafka_home/log" 2>&1 ||
            fail "Kafka's storage cannot be formatted: $(tail -n5 "$kafka_home/log")"
    fi
}

kafka_small() {
    cat <<CONF
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=2097152
log.index.size.max.bytes=1048576
CONF
}

# Starts the broker, also after a crash, and waits until it answers.
kafka_start() {
    if kafka_runs; then return; fi
    command -v java >/dev/null || fail "there is no java: scripts/require.sh test says how to get it"
    kafka_install
    local port
    # Below the ports that the kernel gives to outgoing connections, as is the controller's.
    for _ in {1..10}; do
        port=$(cat "$kafka_home/port" 2>/dev/null || echo $((10000 + RANDOM % 10000)))
        kafka_configure "$port"
        # The log is emptied, for it tells when the broker has started. The broker's own session lets
        # it outlive whoever starts it and what they type.
        : >"$kafka_home/log"
        setsid "${kafka_java[@]}" kafka.Kafka "$kafka_home/server.properties" \
            </dev/null >"$kafka_home/log" 2>&1 &
        echo $! >"$kafka_home/pid"
        if kafka_wait; then
            echo "$port" >"$kafka_home/port"
            return
        fi
        kafka_crash
        if [[ -f $kafka_home/port ]]; then break; fi
        rm -rf "$kafka_home/data"
    done
    fail "Kafka does not start: $(tail -n5 "$kafka_home/log")"
}

# Waits until the broker says that it has started; fails when it has ended.
kafka_wait() {
    for _ in {1..600}; do
        if grep -q 'Kafka Server started' "$kafka_home/log" 2>/dev/null; then return; fi
        sleep 0.1
        if [[ -s $kafka_home/log ]] && ! kafka_runs; then return 1; fi
    done
    return 1
}

kafka_env() {
    echo "export GRISTMILL_TEST_KAFKA=127.0.0.1:$(cat "$kafka_home/port")"
    printf 'export GRISTMILL_TEST_KAFKA_JARS=%q\n' "$kafka_jars"
}

# Ends the broker in order.
kafka_halt() { kafka_end TERM; }

# Ends the broker without order.
kafka_crash() { kafka_end KILL; }

kafka_end() {
    if kafka_runs; then
        kill -"$1" "$(cat "$kafka_home/pid")"
        for _ in {1..600}; do
            if ! kafka_runs; then break; fi
            sleep 0.05
        done
        ! kafka_runs || fail "Kafka does not end: $(tail -n5 "$kafka_home/log")"
    fi
    rm -f "$kafka_home/pid"
}
