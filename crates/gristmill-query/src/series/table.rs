//! The lines of an answer, from what the groups of each series came to.

use std::sync::Arc;

use gristmill_model::{Period, Series, SeriesLine, SeriesPoint, Totals, limits};

use super::cell::{Cell, Running};
use super::formula::ReadyFormula;
use super::group::{Group, Kept};
use super::too_many_points;
use super::walk::{Groups, check_groups};
use crate::QueryError;
use crate::calendar::Buckets;

/// What the lines of one period are made by.
pub(super) struct Table {
    pub(super) period: Period,
    pub(super) series: Vec<Series>,
    /// The names of formulas, and what they say.
    pub(super) formulas: Vec<(String, ReadyFormula)>,
    pub(super) totals: Totals,
    /// How many fields make the groups.
    pub(super) fields: usize,
    pub(super) kept: Option<Arc<Kept>>,
    pub(super) buckets: Arc<Buckets>,
    /// In the period before: the buckets of the range.
    pub(super) compared_with: Option<Arc<Buckets>>,
}

/// Buckets in order, each with its value.
type Values = Vec<(usize, Option<f64>)>;

impl Table {
    /// The lines, given the groups of each series and how many points there may be.
    pub(super) fn lines(
        &self,
        mut series: Vec<Groups>,
        mut points: usize,
    ) -> Result<Vec<SeriesLine>, QueryError> {
        let groups = self.groups(&series);
        if self.kept.is_none() {
            check_groups(groups.len(), limits::SERIES_GROUPS)?;
        }
        let mut values: Vec<Vec<Values>> = Vec::new();
        let mut lines = Vec::new();
        for (one, all) in self.series.iter().zip(&mut series) {
            let mut of_groups = Vec::new();
            for group in &groups {
                let cells = all.remove(group).unwrap_or_default();
                let values = self.values(cells, one, &mut points)?;
                lines.push(self.line(&one.name, group, &values));
                of_groups.push(values);
            }
            values.push(of_groups);
        }
        for (name, formula) in &self.formulas {
            for (index, group) in groups.iter().enumerate() {
                let operands: Vec<&Values> = values.iter().map(|groups| &groups[index]).collect();
                let values = self.formula_values(formula, &operands);
                spend(&mut points, values.len())?;
                lines.push(self.line(name, group, &values));
            }
        }
        lines.retain(|line| !line.points.is_empty());
        Ok(lines)
    }

    /// The groups in their order.
    fn groups(&self, series: &[Groups]) -> Vec<Group> {
        if self.fields == 0 {
            return vec![Group::ALL];
        }
        let mut groups: Vec<Group> =
            series.iter().flat_map(|groups| groups.keys().cloned()).collect();
        match &self.kept {
            None => groups.sort_unstable(),
            Some(kept) => groups.sort_by_cached_key(|group| kept.rank(group)),
        }
        groups.dedup();
        groups
    }

    /// The values of a series in one group.
    fn values(
        &self,
        cells: Vec<(usize, Cell)>,
        series: &Series,
        points: &mut usize,
    ) -> Result<Values, QueryError> {
        let metric = &series.metric;
        let buckets = self.buckets.len();
        let first = match (self.fields, cells.first()) {
            (0, _) => 0,
            (_, Some((first, _))) => *first,
            (_, None) => return Ok(Vec::new()),
        };
        if self.totals == Totals::Running {
            spend(points, buckets - first)?;
            let mut cells = cells.into_iter().peekable();
            let mut running = Running::new(metric);
            let value = |bucket| {
                if let Some((_, cell)) = cells.next_if(|(next, _)| *next == bucket) {
                    running.add(cell);
                }
                (bucket, running.value())
            };
            return Ok((first..buckets).map(value).collect());
        }
        let counted = cells.into_iter().map(|(bucket, mut cell)| (bucket, cell.value(metric)));
        if self.fields > 0 {
            spend(points, counted.len())?;
            return Ok(counted.collect());
        }
        spend(points, buckets)?;
        let mut values: Values = (0..buckets).map(|bucket| (bucket, Cell::empty(metric))).collect();
        counted.for_each(|(bucket, value)| values[bucket].1 = value);
        Ok(values)
    }

    /// The values of a formula wherever a series has one.
    fn formula_values(&self, formula: &ReadyFormula, operands: &[&Values]) -> Values {
        let mut buckets: Vec<usize> =
            operands.iter().flat_map(|values| values.iter().map(|(bucket, _)| *bucket)).collect();
        buckets.sort_unstable();
        buckets.dedup();
        let mut operands: Vec<_> =
            operands.iter().map(|values| values.iter().copied().peekable()).collect();
        let mut row = Vec::with_capacity(operands.len());
        let value = |bucket| {
            row.clear();
            for (values, series) in operands.iter_mut().zip(&self.series) {
                let value = values.next_if(|(next, _)| *next == bucket).map(|(_, value)| value);
                row.push(value.unwrap_or_else(|| Cell::empty(&series.metric)));
            }
            (bucket, formula.value(&row))
        };
        buckets.into_iter().map(value).collect()
    }

    fn line(&self, name: &str, group: &Group, values: &Values) -> SeriesLine {
        let point = |&(bucket, value): &(usize, Option<f64>)| SeriesPoint {
            start: self.buckets.start(bucket),
            compared_with: self.compared_with.as_ref().map(|buckets| buckets.start(bucket)),
            value,
        };
        SeriesLine {
            name: name.to_owned(),
            period: self.period,
            group: group.answer(self.fields),
            points: values.iter().map(point).collect(),
        }
    }
}

fn spend(points: &mut usize, more: usize) -> Result<(), QueryError> {
    *points = points.checked_sub(more).ok_or_else(too_many_points)?;
    Ok(())
}
