//! The roof for the questions of `bench/`: what a plain loop over arrays in memory takes for each, with
//! nothing around it. `make bench-queries` runs it and says what share of it the server reaches.
//!
//! The events are those that `bench/data.py` has generated, sorted by user and time; every column
//! is an array of numbers, a text its code. Two threads have half of the users each.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const START: i64 = 1_767_225_600;
const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
const DAYS: usize = 30;
const WEEK: Range<i64> = START + 7 * DAY..START + 14 * DAY;
const TYPES: usize = 12;
const PAGES: usize = 8_000;
const STEPS: [&str; 3] = ["view_item", "add_to_cart", "purchase"];
const PLAN: &str = "pro";
const ASKS: usize = 11;

/// The events, user by user.
#[derive(Default)]
struct Columns {
    /// Where each user's rows begin, and where the last one's end.
    users: Vec<usize>,
    times: Vec<i64>,
    types: Vec<u8>,
    sessions: Vec<u32>,
    pages: Vec<u16>,
    plans: Vec<u8>,
    countries: Vec<u8>,
    /// 0 where there is none.
    amounts: Vec<u32>,
    /// The rows that have an amount.
    bought: Vec<u32>,
    /// The codes of the funnel's steps and of the plan that is asked for.
    steps: [u8; 3],
    plan: u8,
}

#[expect(clippy::print_stdout, reason = "what it has measured goes to whoever started it")]
fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("usage: roof FILE.parquet")?.into();
    let columns = read(&path)?;
    let all = 0..columns.users.len() - 1;
    let halves = [all.start..all.end / 2, all.end / 2..all.end];
    for (name, kernel) in KERNELS {
        let mut taken: Vec<f64> = (0..ASKS).map(|_| time(kernel, &columns, &halves)).collect();
        taken.sort_by(f64::total_cmp);
        println!("{name} {:.3}", taken[ASKS / 2]);
    }
    Ok(())
}

/// Walks through some users and gives something that depends on all of it.
type Kernel = fn(&Columns, Range<usize>) -> u64;

/// One for each question, by its name in `bench/questions.py`.
const KERNELS: [(&str, Kernel); 11] = [
    ("funnel", funnel),
    ("users_per_day", users_per_day),
    ("hours_and_types", hours_and_types),
    ("types", |columns, users| groups::<TYPES>(columns, users, &columns.types)),
    ("top_pages", top_pages),
    ("summary", summary),
    ("retention", retention),
    ("filtered", filtered),
    ("countries", |columns, users| groups::<40>(columns, users, &columns.countries)),
    ("sum", sum),
    ("p95", p95),
];

#[expect(clippy::disallowed_methods, reason = "it is a stopwatch")]
fn time(kernel: Kernel, columns: &Columns, halves: &[Range<usize>]) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for users in halves {
            scope.spawn(|| black_box(kernel(columns, users.clone())));
        }
    });
    start.elapsed().as_secs_f64() * 1e3
}

impl Columns {
    fn rows(&self, user: usize) -> Range<usize> {
        self.users[user]..self.users[user + 1]
    }

    fn rows_of(&self, users: Range<usize>) -> Range<usize> {
        self.users[users.start]..self.users[users.end]
    }

    /// The days on which a user did something, a bit each.
    fn days(&self, user: usize) -> u32 {
        self.times[self.rows(user)].iter().fold(0, |days, time| days | 1 << day(*time))
    }

    /// The rows of some users that have an amount.
    fn bought(&self, users: Range<usize>) -> &[u32] {
        let rows = self.rows_of(users);
        let before = |end: usize| self.bought.partition_point(|row| (*row as usize) < end);
        &self.bought[before(rows.start)..before(rows.end)]
    }
}

fn day(time: i64) -> usize {
    ((time - START) / DAY) as usize
}

fn funnel(columns: &Columns, users: Range<usize>) -> u64 {
    let [view, cart, purchase] = columns.steps;
    let mut reached = [0_u64; 3];
    for user in users {
        let (mut first, mut second, mut level) = (i64::MIN / 2, i64::MIN / 2, 0);
        for row in columns.rows(user) {
            let (time, kind) = (columns.times[row], columns.types[row]);
            if kind == view {
                first = time;
                level = level.max(1);
            } else if kind == cart && time - first <= DAY {
                second = first;
                level = level.max(2);
            } else if kind == purchase && time - second <= DAY {
                level = 3;
                break;
            }
        }
        (0..level).for_each(|step| reached[step] += 1);
    }
    reached.iter().sum()
}

fn users_per_day(columns: &Columns, users: Range<usize>) -> u64 {
    let mut counts = [0_u64; DAYS];
    for user in users {
        let days = columns.days(user);
        counts.iter_mut().enumerate().for_each(|(day, count)| *count += u64::from(days >> day & 1));
    }
    counts.iter().sum()
}

fn hours_and_types(columns: &Columns, users: Range<usize>) -> u64 {
    let mut counts = vec![0_u64; 7 * 24 * TYPES];
    for row in columns.rows_of(users) {
        let time = columns.times[row];
        if WEEK.contains(&time) {
            let hour = ((time - WEEK.start) / HOUR) as usize;
            counts[hour * TYPES + usize::from(columns.types[row])] += 1;
        }
    }
    counts.iter().sum()
}

/// Events and users of each of a few values.
fn groups<const N: usize>(columns: &Columns, users: Range<usize>, codes: &[u8]) -> u64 {
    let (mut counts, mut of_users) = ([0_u64; N], [0_u64; N]);
    for user in users {
        let mut met = 0_u64;
        for code in &codes[columns.rows(user)] {
            counts[usize::from(*code)] += 1;
            met |= 1 << code;
        }
        of_users.iter_mut().enumerate().for_each(|(code, count)| *count += met >> code & 1);
    }
    counts.iter().zip(&of_users).map(|(count, users)| count * users).sum()
}

fn top_pages(columns: &Columns, users: Range<usize>) -> u64 {
    let mut cells = vec![(0_u32, 0_u32, usize::MAX); PAGES];
    for user in users {
        for page in &columns.pages[columns.rows(user)] {
            let (count, users, latest) = &mut cells[usize::from(*page)];
            *count += 1;
            *users += u32::from(*latest != user);
            *latest = user;
        }
    }
    cells.sort_unstable_by_key(|cell| std::cmp::Reverse(cell.0));
    cells[..10].iter().map(|cell| u64::from(cell.1)).sum()
}

fn summary(columns: &Columns, users: Range<usize>) -> u64 {
    let mut counts = [0_u64; TYPES];
    let most = columns.sessions.iter().max().copied().unwrap_or(0);
    let mut met = vec![0_u64; most as usize / 64 + 1];
    for row in columns.rows_of(users) {
        counts[usize::from(columns.types[row])] += 1;
        let session = columns.sessions[row];
        met[session as usize / 64] |= 1 << (session % 64);
    }
    counts.iter().sum::<u64>() + met.iter().map(|bits| u64::from(bits.count_ones())).sum::<u64>()
}

fn retention(columns: &Columns, users: Range<usize>) -> u64 {
    let mut triangle = [[0_u64; DAYS]; DAYS];
    for user in users {
        let days = columns.days(user);
        let cohort = days.trailing_zeros() as usize;
        let mut left = days;
        while left != 0 {
            triangle[cohort][left.trailing_zeros() as usize - cohort] += 1;
            left &= left - 1;
        }
    }
    triangle.iter().flatten().sum()
}

fn filtered(columns: &Columns, users: Range<usize>) -> u64 {
    let mut counts = [0_u64; DAYS];
    for row in columns.rows_of(users) {
        counts[day(columns.times[row])] += u64::from(columns.plans[row] == columns.plan);
    }
    counts.iter().sum()
}

fn sum(columns: &Columns, users: Range<usize>) -> u64 {
    let mut sums = [0_u64; DAYS];
    for row in columns.bought(users) {
        let row = *row as usize;
        sums[day(columns.times[row])] += u64::from(columns.amounts[row]);
    }
    sums.iter().sum()
}

/// Of each half by itself; joining them would take a little more.
fn p95(columns: &Columns, users: Range<usize>) -> u64 {
    let mut amounts = vec![Vec::new(); DAYS];
    for row in columns.bought(users) {
        let row = *row as usize;
        amounts[day(columns.times[row])].push(columns.amounts[row]);
    }
    let of_day = |amounts: &mut Vec<u32>| {
        let index = (amounts.len() * 95 / 100).min(amounts.len() - 1);
        amounts.select_nth_unstable(index).1.to_owned()
    };
    amounts.iter_mut().filter(|amounts| !amounts.is_empty()).map(of_day).map(u64::from).sum()
}

fn read(path: &PathBuf) -> Result<Columns, Box<dyn Error>> {
    let (mut rows, mut texts) = (Vec::new(), HashMap::new());
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
        append(&batch?, &mut texts, &mut rows).ok_or("a column of bench/data.py is not there")?;
    }
    rows.sort_by_key(|row| (row.user, row.time));
    let code = |column, text: &str| {
        texts.get(column).and_then(|codes: &Codes| codes.get(text)).copied().unwrap_or_default()
            as u8
    };
    let steps = STEPS.map(|step| code("event_type", step));
    let mut columns = Columns { steps, plan: code("plan", PLAN), ..Columns::default() };
    for (index, row) in rows.iter().enumerate() {
        if index == 0 || rows[index - 1].user != row.user {
            columns.users.push(index);
        }
        columns.times.push(row.time);
        columns.types.push(row.kind);
        columns.sessions.push(row.session);
        columns.pages.push(row.page);
        columns.plans.push(row.plan);
        columns.countries.push(row.country);
        columns.amounts.push(row.amount);
        if row.amount > 0 {
            columns.bought.push(index as u32);
        }
    }
    columns.users.push(rows.len());
    Ok(columns)
}

struct Row {
    user: u32,
    time: i64,
    session: u32,
    kind: u8,
    page: u16,
    plan: u8,
    country: u8,
    amount: u32,
}

/// The codes of a column's texts.
type Codes = HashMap<String, u16>;

fn append(
    batch: &RecordBatch,
    texts: &mut HashMap<&'static str, Codes>,
    rows: &mut Vec<Row>,
) -> Option<()> {
    let number =
        |name: &str| Some(batch.column_by_name(name)?.as_primitive_opt::<UInt32Type>()?.clone());
    let mut codes = |name: &'static str| {
        let column = batch.column_by_name(name)?.as_dictionary_opt::<Int32Type>()?;
        let known = texts.entry(name).or_default();
        let code = |text: Option<&str>| {
            let next = known.len() as u16;
            *known.entry(text.unwrap_or_default().to_owned()).or_insert(next)
        };
        let by_key: Vec<u16> = column.values().as_string_opt::<i32>()?.iter().map(code).collect();
        Some(column.keys().values().iter().map(|key| by_key[*key as usize]).collect::<Vec<_>>())
    };
    let (users, sessions, amounts) = (number("user")?, number("session")?, number("amount")?);
    let times = batch.column_by_name("time")?.as_primitive_opt::<Int64Type>()?.clone();
    let (kinds, pages) = (codes("event_type")?, codes("page_url")?);
    let (plans, countries) = (codes("plan")?, codes("country")?);
    rows.extend((0..batch.num_rows()).map(|row| Row {
        user: users.value(row),
        time: times.value(row),
        session: sessions.value(row),
        kind: kinds[row] as u8,
        page: pages[row],
        plan: plans[row] as u8,
        country: countries[row] as u8,
        amount: if amounts.is_null(row) { 0 } else { amounts.value(row) },
    }));
    Some(())
}
