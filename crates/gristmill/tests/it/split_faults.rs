//! Each role in a process of its own, over Kafka, PostgreSQL and Redis, and under load: processors that
//! die, stand still, come and go; servers that stop, freeze, forget. Nothing is lost, nothing counts
//! twice, nothing but what was killed is started again.
//!
//! `GRISTMILL_CHAOS_KILLS` sets how many processors are killed, `GRISTMILL_CHAOS_OUTAGE_SECONDS` how
//! long servers are away. After a long outage, all is counted within twice its length.

use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Deployment, Request, SeededEntropy, Stopwatch, TestDatabase, TestKafka, TestPostgres,
    TestRedis, TestTopic, pause, setting, wait_until,
};

use crate::load::{Load, Named, PATIENCE};
use crate::profiles::split;
use crate::support::store_number;

/// Three processors, and a process for each of the other roles.
const ROLES: [&str; 5] = ["process", "process", "process", "ingest", "query"];
const PROCESSORS: u64 = 3;
const KILLS: u64 = 12;
const OUTAGE_SECONDS: u64 = 3;
/// Longer than a group waits for one of its members.
const STANDS_STILL: Duration = Duration::from_secs(5);
/// From this length on, an outage is measured against the time it takes to catch up.
const LONG_OUTAGE: Duration = Duration::from_secs(15);

/// What happens to the platform.
#[derive(Clone, Copy, Debug)]
enum Fault {
    ProcessorsDie,
    ProcessorStandsStill,
    ProcessorsComeAndGo,
    PostgresStops,
    PostgresCrashes,
    ConnectionsAreCut,
    KafkaStops,
    RecordsAreRepeated,
    RedisStandsStill,
    RedisIsEmptied,
    RedisIsRestored,
}

#[test]
fn processors_that_die_or_stand_still_lose_and_double_nothing() -> anyhow::Result<()> {
    let scene = Scene::over(None, None)?;
    let faults = [Fault::ProcessorsDie, Fault::ProcessorStandsStill, Fault::ProcessorsComeAndGo];
    survives(scene, &faults)
}

#[test]
fn a_database_that_stops_under_load_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let scene = Scene::over(None, Some(TestPostgres::start()?))?;
    survives(scene, &[Fault::ConnectionsAreCut, Fault::PostgresStops, Fault::PostgresCrashes])
}

#[test]
fn a_broker_that_stops_under_load_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let scene = Scene::over(Some(TestKafka::start()?), None)?;
    survives(scene, &[Fault::RecordsAreRepeated, Fault::KafkaStops])
}

#[test]
fn a_cache_that_fails_under_load_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let scene = Scene::over(None, None)?;
    survives(scene, &[Fault::RedisStandsStill, Fault::RedisIsEmptied, Fault::RedisIsRestored])
}

/// Has faults happen one after the other under load, and holds what is counted against what was taken.
#[expect(clippy::print_stdout, reason = "a long run tells how long it took to catch up")]
fn survives(mut scene: Scene, faults: &[Fault]) -> anyhow::Result<()> {
    let front = scene.deployment.front().address();
    let load = Load::run(front, Named::ById, |load| {
        for fault in faults {
            load.more(100)?;
            let outage = scene.meet(*fault, load).with_context(|| format!("{fault:?}"))?;
            let caught_up = load.catch_up().with_context(|| format!("after {fault:?}"))?;
            println!("{fault:?}: away for {outage:?}, caught up {caught_up:?} later");
            let is_in_time = outage < LONG_OUTAGE || caught_up <= 2 * outage;
            anyhow::ensure!(is_in_time, "{fault:?}: {caught_up:?} after {outage:?}");
        }
        load.more(100)
    })?;
    let tally = load.check(scene.deployment.front())?;
    println!("{tally:?}");
    for process in scene.deployment.processes() {
        let answer = process.send(&Request::get("/livez")).context("a process has ended")?;
        assert_eq!(answer.status, 200, "{}", process.log());
    }
    let counts = "SELECT (SELECT count(*) FROM gristmill.events), \
                  (SELECT count(DISTINCT (project, user_id, event_id)) FROM gristmill.events), \
                  (SELECT sum(stored) FROM gristmill.positions), \
                  (SELECT sum(click_count) FROM page_clicks)";
    let counts = scene.database.run(counts)?.remove(0);
    let accepted = tally.accepted.to_string();
    assert!(counts.iter().all(|count| *count == accepted), "{counts:?} of {accepted}");
    Ok(())
}

/// A platform and the servers that it runs over. Those that a fault stops are its own.
struct Scene {
    deployment: Deployment,
    topic: TestTopic,
    database: TestDatabase,
    redis: TestRedis,
    kafka: Option<TestKafka>,
    postgres: Option<TestPostgres>,
    dice: SeededEntropy,
    kills: u64,
    outage: Duration,
}

impl Scene {
    fn over(kafka: Option<TestKafka>, postgres: Option<TestPostgres>) -> anyhow::Result<Self> {
        let topic = kafka.as_ref().map_or_else(TestTopic::unmade, |kafka| Ok(kafka.topic()))?;
        let database =
            postgres.as_ref().map_or_else(TestDatabase::create, TestPostgres::create_database)?;
        let redis = TestRedis::start()?;
        let number = |name: &'static str, fallback: u64| {
            setting(name).map_or(Ok(fallback), |text| text.parse()).context(name)
        };
        let outage = number("GRISTMILL_CHAOS_OUTAGE_SECONDS", OUTAGE_SECONDS)?;
        Ok(Self {
            deployment: split(&topic, &database, &redis.address(), &ROLES)?,
            topic,
            database,
            redis,
            kafka,
            postgres,
            dice: SeededEntropy::new(u64::from(std::process::id())),
            kills: number("GRISTMILL_CHAOS_KILLS", KILLS)?,
            outage: Duration::from_secs(outage),
        })
    }

    /// Has a fault happen, and gives how long something was away.
    fn meet(&mut self, fault: Fault, load: &Load) -> anyhow::Result<Duration> {
        match fault {
            Fault::ProcessorsDie => self.kill_processors(load),
            Fault::ProcessorStandsStill => self.freeze_a_processor(),
            Fault::ProcessorsComeAndGo => self.rebalance(load),
            Fault::PostgresStops => self.stop_postgres(TestPostgres::halt),
            Fault::PostgresCrashes => self.stop_postgres(TestPostgres::crash),
            Fault::ConnectionsAreCut => self.cut_connections(load),
            Fault::KafkaStops => self.stop_kafka(),
            Fault::RecordsAreRepeated => self.repeat_records(),
            Fault::RedisStandsStill => self.freeze_redis(),
            Fault::RedisIsEmptied => self.redis.run(&["FLUSHALL"]).map(|_| Duration::ZERO),
            Fault::RedisIsRestored => self.restore_redis(load),
        }
    }

    fn kill_processors(&mut self, load: &Load) -> anyhow::Result<Duration> {
        for _ in 0..self.kills {
            load.more(100)?;
            pause(Duration::from_millis(self.dice.below(300)));
            let processor = &mut self.deployment.behind()[self.dice.below(PROCESSORS) as usize];
            processor.kill9()?;
            processor.spawn()?;
        }
        Ok(Duration::ZERO)
    }

    /// It comes back when others have its partitions.
    fn freeze_a_processor(&mut self) -> anyhow::Result<Duration> {
        let away = Stopwatch::start();
        let processor = &self.deployment.behind()[self.dice.below(PROCESSORS) as usize];
        processor.freeze()?;
        pause(STANDS_STILL.max(self.outage));
        processor.thaw()?;
        Ok(away.elapsed())
    }

    /// Processors leave in order and join again, one after the other, without a pause for the others.
    fn rebalance(&mut self, load: &Load) -> anyhow::Result<Duration> {
        for round in 0..self.kills / 2 {
            let processor = &mut self.deployment.behind()[(round % PROCESSORS) as usize];
            // Until it can be told to end, it must have begun.
            processor.wait_ready()?;
            let status = processor.terminate()?;
            anyhow::ensure!(status.success(), "{status}: {}", processor.log());
            load.more(100)?;
            processor.spawn()?;
            pause(Duration::from_millis(self.dice.below(1_000)));
        }
        Ok(Duration::ZERO)
    }

    fn stop_postgres(
        &self,
        stop: fn(&TestPostgres) -> anyhow::Result<()>,
    ) -> anyhow::Result<Duration> {
        let postgres = self.postgres.as_ref().context("PostgreSQL is others' too")?;
        let away = Stopwatch::start();
        stop(postgres)?;
        pause(self.outage);
        postgres.restart()?;
        Ok(away.elapsed())
    }

    fn stop_kafka(&self) -> anyhow::Result<Duration> {
        let kafka = self.kafka.as_ref().context("Kafka is others' too")?;
        let away = Stopwatch::start();
        kafka.halt()?;
        pause(self.outage);
        kafka.restart()?;
        Ok(away.elapsed())
    }

    /// Some of these are cut while they commit.
    fn cut_connections(&self, load: &Load) -> anyhow::Result<Duration> {
        for _ in 0..self.kills {
            load.more(50)?;
            pause(Duration::from_millis(self.dice.below(50)));
            // Those of the last time may not be back yet.
            let cut = || self.database.cut_connections().ok().filter(|cut| *cut > 0);
            wait_until("a connection to cut", PATIENCE, cut)?;
        }
        Ok(Duration::ZERO)
    }

    /// Every record once more, as of a producer that heard of none of its batches.
    fn repeat_records(&self) -> anyhow::Result<Duration> {
        let records = self.topic.read()?;
        self.topic.write_again(&records)?;
        let wanted = records.len() as u64;
        let told = || store_number(self.deployment.front(), "duplicate").ok();
        wait_until("the copies to be found", PATIENCE, || told().filter(|told| *told >= wanted))?;
        Ok(Duration::ZERO)
    }

    fn freeze_redis(&self) -> anyhow::Result<Duration> {
        let away = Stopwatch::start();
        self.redis.freeze()?;
        pause(self.outage);
        self.redis.thaw()?;
        Ok(away.elapsed())
    }

    /// It is killed, and comes back with what it held some time ago.
    fn restore_redis(&mut self, load: &Load) -> anyhow::Result<Duration> {
        self.redis.dump()?;
        let old = std::fs::read(self.redis.dump_file())?;
        load.catch_up()?;
        let away = Stopwatch::start();
        self.redis.kill()?;
        std::fs::write(self.redis.dump_file(), old)?;
        pause(self.outage);
        self.redis.restart()?;
        Ok(away.elapsed())
    }
}
