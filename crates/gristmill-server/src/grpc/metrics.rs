//! `analytics.v1.MetricsService`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;
use gristmill_model::{TimeRange, Timestamp};
use gristmill_proto::analytics::v1::metrics_service_server::MetricsService;
use gristmill_proto::analytics::v1::{
    self, ExportMetricsRequest, ExportMetricsResponse, GetMetricsRequest, GetMetricsResponse,
    HealthResponse, Metric, MetricAggregation, MetricMetadata, MetricType, MetricsMetadata,
    ServiceStatus,
};
use tonic::{Request, Response, Status};

use super::status;
use crate::analytics::at_least;
use crate::app::App;
use crate::caller::project_of;
use crate::exposition::Kind;
use crate::metrics_service::{
    AGGREGATIONS, Aggregation, Changes, Format, Question, Reading, exported, readings,
};
use crate::problem::Problem;

/// Answers calls of the service.
pub(super) struct MetricsCalls(pub(super) Arc<App>);

#[tonic::async_trait]
impl MetricsService for MetricsCalls {
    type StreamMetricsStream = Pin<Box<dyn Stream<Item = Result<Metric, Status>> + Send>>;

    async fn get_metrics(
        &self,
        call: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        self.get(call).await.map(Response::new).map_err(|problem| status::of(&problem))
    }

    async fn stream_metrics(
        &self,
        call: Request<GetMetricsRequest>,
    ) -> Result<Response<Self::StreamMetricsStream>, Status> {
        let changes = self.listen(call).await.map_err(|problem| status::of(&problem))?;
        let stream = unfold(changes, async |mut changes| {
            let next = changes.next().await?;
            Some((next.map(metric).map_err(|problem| status::of(&problem)), changes))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn export_metrics(
        &self,
        call: Request<ExportMetricsRequest>,
    ) -> Result<Response<ExportMetricsResponse>, Status> {
        self.export(call).await.map(Response::new).map_err(|problem| status::of(&problem))
    }

    async fn health(&self, _: Request<()>) -> Result<Response<HealthResponse>, Status> {
        Ok(Response::new(health(&self.0)))
    }
}

impl MetricsCalls {
    async fn get(&self, call: Request<GetMetricsRequest>) -> Result<GetMetricsResponse, Problem> {
        let question = self.question(call).await?;
        let metrics: Vec<_> = readings(&self.0, &question).await?.into_iter().map(metric).collect();
        let metadata = MetricsMetadata {
            total_metrics: i32::try_from(metrics.len()).unwrap_or(i32::MAX),
            time_range: Some(to_message(question.range)),
            aggregation: number_of(question.aggregation.0),
        };
        Ok(GetMetricsResponse { metrics, metadata: Some(metadata) })
    }

    async fn listen(&self, call: Request<GetMetricsRequest>) -> Result<Changes, Problem> {
        let question = self.question(call).await?;
        Changes::begin(Arc::clone(&self.0), question).await
    }

    async fn export(
        &self,
        call: Request<ExportMetricsRequest>,
    ) -> Result<ExportMetricsResponse, Problem> {
        let project = project_of(call.extensions());
        let ExportMetricsRequest { format, metric_names, time_range, at_least: token } =
            call.into_inner();
        let format = Format::named(&format)?;
        let question = Question {
            project,
            names: metric_names,
            range: range_of(time_range)?,
            labels: BTreeMap::new(),
            aggregation: AGGREGATIONS[0],
        };
        wait(&self.0, token).await?;
        let exported = exported(&self.0, &question, format).await?;
        Ok(ExportMetricsResponse {
            data: exported.text,
            content_type: exported.content_type.to_owned(),
            metrics_count: i64::try_from(exported.count).unwrap_or(i64::MAX),
        })
    }

    async fn question(&self, call: Request<GetMetricsRequest>) -> Result<Question, Problem> {
        let project = project_of(call.extensions());
        let request = call.into_inner();
        let question = Question {
            project,
            names: request.metric_names,
            range: range_of(request.time_range)?,
            labels: request.labels,
            aggregation: aggregation_of(request.aggregation)?,
        };
        wait(&self.0, request.at_least).await?;
        Ok(question)
    }
}

async fn wait(app: &App, token: String) -> Result<(), Problem> {
    at_least(app, Some(token).filter(|token| !token.is_empty())).await
}

fn metric(reading: Reading) -> Metric {
    let kind = match reading.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    Metric {
        name: reading.name,
        r#type: kind.into(),
        value: reading.value.unwrap_or(f64::NAN),
        labels: reading.labels,
        timestamp: Some(timestamp(reading.time)),
        unit: reading.unit,
        metadata: Some(MetricMetadata {
            description: reading.description,
            tags: vec![reading.source.tag().to_owned()],
            sample_rate: 1.0,
        }),
    }
}

/// The aggregation of a number of the protocol.
fn aggregation_of(number: i32) -> Result<Aggregation, Problem> {
    let index = usize::try_from(number).ok().map(|number| number.saturating_sub(1));
    let known = index.and_then(|index| AGGREGATIONS.get(index).copied());
    known.ok_or_else(|| {
        Problem::argument(format!(
            "`aggregation` must be a number from 0 to {}",
            AGGREGATIONS.len()
        ))
    })
}

/// The number in the protocol of an aggregation.
fn number_of(name: &str) -> i32 {
    let name = format!("METRIC_AGGREGATION_{}", name.to_ascii_uppercase());
    MetricAggregation::from_str_name(&name).unwrap_or_default().into()
}

fn range_of(range: Option<v1::TimeRange>) -> Result<TimeRange, Problem> {
    let v1::TimeRange { start, end } = range.unwrap_or_default();
    Ok(TimeRange {
        start: time_of("time_range.start", start)?,
        end: time_of("time_range.end", end)?,
    })
}

fn time_of(name: &str, time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Problem> {
    let Some(prost_types::Timestamp { seconds, nanos }) = time else { return Ok(None) };
    let micros =
        seconds.checked_mul(Timestamp::SECOND).filter(|_| (0..1_000_000_000).contains(&nanos));
    let time = micros.and_then(|micros| micros.checked_add(i64::from(nanos / 1_000)));
    let time = time.ok_or_else(|| {
        Problem::argument(format!("`{name}` is no time: use seconds since 1970 and nanoseconds"))
    })?;
    Ok(Some(Timestamp(time)))
}

fn to_message(range: TimeRange) -> v1::TimeRange {
    v1::TimeRange { start: range.start.map(timestamp), end: range.end.map(timestamp) }
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.0.rem_euclid(Timestamp::SECOND) * 1_000;
    prost_types::Timestamp { seconds: time.seconds(), nanos: nanos as i32 }
}

/// What `/v1/metrics/health` says in short.
fn health(app: &App) -> HealthResponse {
    let healthy = !app.draining.is_cancelled();
    let parts =
        [("log", app.services.ingest.is_available()), ("store", app.services.store.is_available())];
    let word = |is_available| if is_available { "available" } else { "not available" }.to_owned();
    let service = |(name, healthy): (&str, bool)| ServiceStatus {
        name: name.to_owned(),
        healthy,
        status: word(healthy),
        response_time: None,
    };
    HealthResponse {
        healthy,
        status: if healthy { "healthy" } else { "unhealthy" }.to_owned(),
        timestamp: Some(timestamp(app.now())),
        details: parts.iter().map(|(name, is)| ((*name).to_owned(), word(*is))).collect(),
        services: parts.into_iter().map(service).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_protocol_and_names_are_the_same_aggregations() {
        assert_eq!(aggregation_of(0).unwrap().0, "sum");
        for number in 1..=7 {
            assert_eq!(number_of(aggregation_of(number).unwrap().0), number);
        }
        for number in [-1, 8, i32::MIN, i32::MAX] {
            assert!(aggregation_of(number).is_err(), "{number}");
        }
    }

    #[test]
    fn times_are_there_and_back_again_or_refused() {
        let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        for micros in [0, 1, -1, 1_500_000, -1_500_000, Timestamp::MIN.0, Timestamp::MAX.0] {
            let there = timestamp(Timestamp(micros));
            assert_eq!(time_of("t", Some(there)).unwrap(), Some(Timestamp(micros)));
        }
        assert_eq!(time_of("t", None).unwrap(), None);
        for wrong in [time(0, -1), time(0, 1_000_000_000), time(i64::MAX, 0)] {
            assert!(time_of("t", wrong).is_err());
        }
    }
}
