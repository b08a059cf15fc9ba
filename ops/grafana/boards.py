"""What the four dashboards show. Rates are over `$__rate_interval`, OURS is what was chosen."""

from collections.abc import Sequence

from ops.grafana.render import Board, Panel, Query, Row

PARTITIONS = "partition:hookline_lag_records:max"


def _rate(metric: str, by: str, more: str = "") -> str:
    labels = f"OURS,{more}" if more else "OURS"
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantiles(histogram: str, by: str = "", legend: str = "") -> Sequence[Query]:
    """Return the median and the 99th percentile of a histogram."""
    rates = _rate(f"{histogram}_bucket", f"le, {by}" if by else "le")
    return [
        Query(f"histogram_quantile({q}, {rates})", f"{legend} {name}".strip())
        for q, name in ((0.5, "half"), (0.99, "99 %"))
    ]


OVERVIEW = Board(
    "hookline-overview",
    "hookline: overview",
    "For the person on call, on one screen: is everything in time, and if not, where does it wait?",
    "ingest|consumer|gatekeeper",
    [
        Row(
            [
                Panel(
                    "Alerts",
                    "Alerts that fire now; each of hookline's has a page in ops/runbooks/.",
                    "short",
                    [Query('count(ALERTS{alertstate="firing"}) or vector(0)')],
                    width=4,
                    stat=True,
                    red_from=1,
                ),
                Panel(
                    "Answered without 5xx",
                    "Share of requests of the last hour, of the worse process; the objective is "
                    "99.95 %.",
                    "percentunit",
                    [Query("1 - max(job:hookline_request_errors:ratio_rate1h)")],
                    width=4,
                    stat=True,
                    red_below=0.9995,
                ),
                Panel(
                    "Applied within 10 s",
                    "Share of the last hour's events, receipt to COMMIT; the objective is 99 %.",
                    "percentunit",
                    [Query("1 - hookline:slow_events:ratio_rate1h")],
                    width=4,
                    stat=True,
                    red_below=0.99,
                ),
                Panel(
                    "Oldest unapplied",
                    "Age of the oldest record that is not applied yet, over all partitions.",
                    "s",
                    [Query("max(partition:hookline_lag_seconds:max)")],
                    width=4,
                    stat=True,
                    red_from=60,
                ),
                Panel(
                    "Open dead letters",
                    "Records that were set aside and are not resolved.",
                    "short",
                    [Query("sum(max by (reason) (hookline_consumer_open_dead_letters))")],
                    width=4,
                    stat=True,
                    red_from=1,
                ),
                Panel(
                    "Stripe silent for",
                    "Time since the last request with a valid signature.",
                    "s",
                    [Query("hookline:stripe_silence:seconds")],
                    width=4,
                    stat=True,
                    red_from=3600,
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Webhook requests",
                    "By HTTP answer. 503: Stripe sends it again; 400: not signed by our secret.",
                    "reqps",
                    [Query(_rate("hookline_ingest_requests_total", "answer"), "{{answer}}")],
                    width=12,
                    stack=True,
                ),
                Panel(
                    "Events",
                    "What became of recorded events.",
                    "cps",
                    [Query(_rate("hookline_consumer_events_total", "outcome"), "{{outcome}}")],
                    width=12,
                    stack=True,
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Receipt to COMMIT",
                    "How long an event takes from ingest to the commit of its effects.",
                    "s",
                    _quantiles("hookline_consumer_end_to_end_seconds"),
                    red_from=10,
                ),
                Panel(
                    "Records that wait",
                    "In Kafka and not applied yet, over all partitions.",
                    "short",
                    [Query(f"sum({PARTITIONS})", "waiting")],
                ),
                Panel(
                    "Entitlement answers",
                    "How long the gatekeeper takes.",
                    "s",
                    _quantiles("hookline_gatekeeper_answer_seconds"),
                ),
            ]
        ),
    ],
)

PIPELINE = Board(
    "hookline-pipeline",
    "hookline: pipeline",
    "From Stripe's request to the COMMIT: ingest, each partition, each phase of a batch.",
    "ingest|consumer",
    [
        Row(
            [
                Panel(
                    "Answers by reason",
                    "Why ingest answered as it did; the reasons stand in the README.",
                    "reqps",
                    [Query(_rate("hookline_ingest_requests_total", "reason"), "{{reason}}")],
                ),
                Panel(
                    "Answer and acknowledgement",
                    "How long a request takes, and how much of it Kafka's acknowledgement.",
                    "s",
                    [
                        *_quantiles("hookline_ingest_request_seconds", legend="request"),
                        *_quantiles("hookline_ingest_publish_seconds", legend="Kafka"),
                    ],
                ),
                Panel(
                    "Held requests and connections",
                    "Requests that wait for Kafka (2,000 at most) and open connections (4,000).",
                    "short",
                    [
                        Query("sum(hookline_ingest_waiting_requests{OURS})", "waiting for Kafka"),
                        Query("sum(hookline_ingest_open_connections{OURS})", "connections"),
                    ],
                ),
                Panel(
                    "Signatures by secret",
                    "By the position of the secret that matched; the first is the newest.",
                    "reqps",
                    [
                        Query(
                            _rate("hookline_ingest_matched_secrets_total", "position"),
                            "secret {{position}}",
                        ),
                        Query("hookline:refused_signatures:rate30m", "refused, 30 minutes"),
                    ],
                ),
                Panel(
                    "Connections refused",
                    "Closed by a limit before a request was read.",
                    "cps",
                    [
                        Query(
                            _rate("hookline_ingest_refused_connections_total", "limit"), "{{limit}}"
                        )
                    ],
                ),
                Panel(
                    "Stripe silent for",
                    "Time since the last request with a valid signature.",
                    "s",
                    [Query("hookline:stripe_silence:seconds", "silence")],
                ),
            ],
            "Ingest",
        ),
        Row(
            [
                Panel(
                    "Lag in records",
                    "By partition: records that are not applied yet.",
                    "short",
                    [Query(PARTITIONS, "{{partition}}")],
                ),
                Panel(
                    "Lag in seconds",
                    "By partition: age of the oldest record that is not applied yet.",
                    "s",
                    [Query("partition:hookline_lag_seconds:max", "{{partition}}")],
                    red_from=60,
                ),
                Panel(
                    "Applied records",
                    "By partition: how fast its position moves.",
                    "cps",
                    [
                        Query(
                            _rate("hookline_consumer_applied_records_total", "partition"),
                            "{{partition}}",
                        )
                    ],
                ),
                Panel(
                    "Time to catch up",
                    "By partition, at the pace of five minutes; nothing while the lag grows.",
                    "s",
                    [Query("partition:hookline_lag_records:catch_up_seconds", "{{partition}}")],
                ),
                Panel(
                    "Ahead of Kafka's commit",
                    "By partition: position in PostgreSQL less the offset that Kafka holds.",
                    "short",
                    [
                        Query(
                            "max by (partition) (hookline_consumer_uncommitted_records{OURS})",
                            "{{partition}}",
                        )
                    ],
                ),
                Panel(
                    "Owners",
                    "Partitions owned, and how many of them wait, stand still or are stopped.",
                    "short",
                    [
                        Query("sum(hookline_consumer_partitions{OURS})", "owned"),
                        Query("max(hookline_ingest_topic_partitions)", "of the topic"),
                        Query("sum(hookline_consumer_waiting_partitions{OURS})", "position unread"),
                        Query(
                            "sum(hookline_consumer_stalled_partitions{OURS})", "without progress"
                        ),
                        Query(
                            "sum(hookline_consumer_stopped_partitions{OURS})", "stopped at a gap"
                        ),
                    ],
                ),
            ],
            "Partitions",
        ),
        Row(
            [
                Panel(
                    "Phases of a batch",
                    "How long each takes, at the 99th percentile.",
                    "s",
                    [
                        Query(
                            "histogram_quantile(0.99, "
                            + _rate("hookline_consumer_batch_seconds_bucket", "le, phase")
                            + ")",
                            "{{phase}}",
                        )
                    ],
                ),
                Panel(
                    "Time by phase",
                    "Seconds per second that consumers spend in each phase.",
                    "percentunit",
                    [Query(_rate("hookline_consumer_batch_seconds_sum", "phase"), "{{phase}}")],
                    stack=True,
                ),
                Panel(
                    "Records in a batch",
                    "Median and 99th percentile; 500 at most.",
                    "short",
                    _quantiles("hookline_consumer_batch_records"),
                ),
                Panel(
                    "Batches by verdict",
                    "Applied, or why it is tried again.",
                    "cps",
                    [Query(_rate("hookline_consumer_batches_total", "verdict"), "{{verdict}}")],
                ),
                Panel(
                    "Repeated deliveries",
                    "Dropped as applied already, by who knew.",
                    "cps",
                    [Query(_rate("hookline_consumer_duplicates_total", "layer"), "{{layer}}")],
                ),
                Panel(
                    "Set aside",
                    "New dead letters by reason.",
                    "cps",
                    [Query(_rate("hookline_consumer_dead_letters_total", "reason"), "{{reason}}")],
                ),
                Panel(
                    "Receipt to COMMIT",
                    "From ingest to the commit of an event's effects; 99 % within 10 s.",
                    "s",
                    _quantiles("hookline_consumer_end_to_end_seconds"),
                    red_from=10,
                ),
                Panel(
                    "Stripe's clock to COMMIT",
                    "From `created`, in whole seconds, to the commit; sent again for three days.",
                    "s",
                    _quantiles("hookline_consumer_created_to_commit_seconds"),
                ),
                Panel(
                    "Rebalances",
                    "Partitions given and taken.",
                    "cps",
                    [Query(_rate("hookline_consumer_rebalances_total", "change"), "{{change}}")],
                ),
            ],
            "Batches",
        ),
    ],
)

ENTITLEMENTS = Board(
    "hookline-entitlements",
    "hookline: entitlements",
    "What applications are told, how fast, and what the answers rest on.",
    "gatekeeper|consumer",
    [
        Row(
            [
                Panel(
                    "Answers",
                    "By HTTP status; 503: PostgreSQL did not answer in time.",
                    "reqps",
                    [Query(_rate("hookline_gatekeeper_answers_total", "answer"), "{{answer}}")],
                    stack=True,
                ),
                Panel(
                    "Sources",
                    "Where answers came from.",
                    "reqps",
                    [Query(_rate("hookline_gatekeeper_answers_total", "source"), "{{source}}")],
                    stack=True,
                ),
                Panel(
                    "Time of an answer",
                    "By source.",
                    "s",
                    _quantiles("hookline_gatekeeper_answer_seconds", "source", "{{source}}"),
                ),
            ],
            "Answers",
        ),
        Row(
            [
                Panel(
                    "Events by type",
                    "What Stripe tells, as far as its type is known by name.",
                    "cps",
                    [Query(_rate("hookline_consumer_events_total", "type"), "{{type}}")],
                ),
                Panel(
                    "Events without effect",
                    "Why an event changed nothing; the reasons stand in the README.",
                    "cps",
                    [
                        Query(
                            _rate("hookline_consumer_events_total", "reason", 'outcome!="applied"'),
                            "{{reason}}",
                        )
                    ],
                ),
                Panel(
                    "To be looked at",
                    "Ties that no event settles, prices not in the plans file, second endpoints.",
                    "cps",
                    [
                        Query(_rate("hookline_consumer_ambiguous_total", "job"), "ambiguous"),
                        Query(_rate("hookline_consumer_unmapped_prices_total", "job"), "unmapped"),
                        Query(
                            _rate("hookline_consumer_second_renderings_total", "job"),
                            "second renderings",
                        ),
                    ],
                ),
            ],
            "What they rest on",
        ),
        Row(
            [
                Panel(
                    "Looks into the cache",
                    "What they found; unknown: Redis did not say.",
                    "cps",
                    [Query(_rate("hookline_gatekeeper_cache_reads_total", "result"), "{{result}}")],
                    stack=True,
                ),
                Panel(
                    "Leases",
                    "What became of a miss: filled, held by another reader, lost to a change.",
                    "cps",
                    [
                        Query(
                            _rate("hookline_gatekeeper_cache_leases_total", "outcome"),
                            "{{outcome}}",
                        )
                    ],
                ),
                Panel(
                    "Inspected",
                    "Hits that were compared with PostgreSQL, and those that were out of date.",
                    "cps",
                    [
                        Query(
                            _rate("hookline_gatekeeper_cache_inspected_total", "job"), "inspected"
                        ),
                        Query(
                            _rate("hookline_gatekeeper_cache_differences_total", "job"), "different"
                        ),
                    ],
                ),
                Panel(
                    "Entries to drop",
                    "Batches whose entries Redis has not confirmed as dropped a second later.",
                    "short",
                    [Query("max(hookline_consumer_invalidations_waiting)", "waiting")],
                ),
                Panel(
                    "Oldest entry to drop",
                    "How long the oldest of those has waited.",
                    "s",
                    [Query("max(hookline_consumer_invalidations_oldest_seconds)", "oldest")],
                    red_from=60,
                ),
            ],
            "Cache",
        ),
    ],
)

RUNTIME = Board(
    "hookline-runtime",
    "hookline: runtime and dependencies",
    "Processes, their memory and processor time, and what they see of Kafka, PostgreSQL and Redis.",
    "ingest|consumer|gatekeeper",
    [
        Row(
            [
                Panel(
                    "Up",
                    "1 where Prometheus is answered.",
                    "short",
                    [Query("up{OURS}", "{{job}} {{instance}}")],
                ),
                Panel(
                    "Version",
                    "Processes by version.",
                    "short",
                    [Query("count by (version) (hookline_build_info{OURS})", "{{version}}")],
                    stack=True,
                ),
                Panel(
                    "Time since the start",
                    "A saw tooth is a process that is started again and again.",
                    "s",
                    [Query("time() - process_start_time_seconds{OURS}", "{{job}} {{instance}}")],
                ),
                Panel(
                    "Processor",
                    "Cores in use; a consumer can use one.",
                    "percentunit",
                    [
                        Query(
                            _rate("process_cpu_seconds_total", "job, instance"),
                            "{{job}} {{instance}}",
                        )
                    ],
                ),
                Panel(
                    "Memory",
                    "Resident.",
                    "bytes",
                    [Query("process_resident_memory_bytes{OURS}", "{{job}} {{instance}}")],
                ),
                Panel(
                    "Open files",
                    "Connections included.",
                    "short",
                    [Query("process_open_fds{OURS}", "{{job}} {{instance}}")],
                ),
            ],
            "Processes",
        ),
        Row(
            [
                Panel(
                    "Kafka's acknowledgement",
                    "From handing over an event to the brokers' answer.",
                    "s",
                    _quantiles("hookline_ingest_publish_seconds"),
                ),
                Panel(
                    "PostgreSQL's transaction",
                    "The whole transaction of a batch.",
                    "s",
                    [
                        Query(
                            f"histogram_quantile({q}, "
                            + _rate(
                                "hookline_consumer_batch_seconds_bucket",
                                "le",
                                'phase="transaction"',
                            )
                            + ")",
                            name,
                        )
                        for q, name in ((0.5, "half"), (0.99, "99 %"))
                    ],
                ),
                Panel(
                    "Redis unanswered",
                    "Questions that Redis did not answer in time; work goes on without.",
                    "cps",
                    [Query(_rate("hookline_redis_unknown_total", "operation"), "{{operation}}")],
                ),
                Panel(
                    "Redis left alone",
                    "1 after repeated failures.",
                    "short",
                    [Query("hookline_redis_breaker_open{OURS}", "{{job}} {{instance}}")],
                    red_from=1,
                ),
                Panel(
                    "Waiting for others",
                    "Customers' locks that somebody else held, sessions that were ended.",
                    "cps",
                    [
                        Query(_rate("hookline_consumer_locks_held_total", "job"), "locks held"),
                        Query(
                            _rate("hookline_consumer_ended_backends_total", "job"),
                            "sessions ended",
                        ),
                    ],
                ),
                Panel(
                    "Loop",
                    "Time since each consumer's loop came round; it hangs where this grows.",
                    "s",
                    [Query("hookline_consumer_loop_seconds{OURS}", "{{instance}}")],
                    red_from=60,
                ),
            ],
            "Dependencies",
        ),
    ],
)

BOARDS = (OVERVIEW, PIPELINE, ENTITLEMENTS, RUNTIME)
