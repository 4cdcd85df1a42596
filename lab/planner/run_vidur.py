"""One timed run of Vidur, inside its own environment: argv are a trace and the number of replicas.

Its step times are linear models of its A100 profiles, its scheduler is the chunked-prefill one, its router least
outstanding requests, and every metric is off, so that what is timed is the simulation.
"""

import json
import sys
import time

PREDICTOR = "--linear_regression_execution_time_predictor_config_"
ARGUMENTS = (
    *("--replica_config_device", "a100", "--replica_config_model_name", "meta-llama/Meta-Llama-3-8B"),
    *("--replica_config_tensor_parallel_size", "1", "--replica_config_num_pipeline_stages", "1"),
    *("--request_generator_config_type", "trace_replay", "--trace_request_generator_config_max_tokens", "8192"),
    *("--global_scheduler_config_type", "lor", "--replica_scheduler_config_type", "sarathi"),
    *("--sarathi_scheduler_config_batch_size_cap", "256", "--sarathi_scheduler_config_chunk_size", "2048"),
    *("--execution_time_predictor_config_type", "linear_regression"),
    *(f"{PREDICTOR}prediction_max_prefill_chunk_size", "4096", f"{PREDICTOR}prediction_max_batch_size", "256"),
    *(f"{PREDICTOR}prediction_max_tokens_per_request", "8192", f"{PREDICTOR}num_training_job_threads", "1"),
    *(f"{PREDICTOR}polynomial_degree", "1", f"{PREDICTOR}k_fold_cv_splits", "2"),
    *(f"{PREDICTOR}polynomial_include_bias", "True", f"{PREDICTOR}skip_cpu_overhead_modeling"),
    *("--no-metrics_config_write_metrics", "--no-metrics_config_store_plots"),
    *("--no-metrics_config_enable_chrome_trace", "--no-metrics_config_write_json_trace"),
    *("--no-metrics_config_store_request_metrics", "--no-metrics_config_store_batch_metrics"),
    *("--no-metrics_config_store_utilization_metrics", "--no-metrics_config_store_token_completion_metrics"),
)


def main() -> None:
    """Run and print one line of JSON."""
    trace, replicas = sys.argv[1:3]
    file = ("--trace_request_generator_config_trace_file", trace, "--cluster_config_num_replicas", replicas)
    sys.argv = ["vidur", *ARGUMENTS, *file]
    from vidur.config import SimulationConfig
    from vidur.simulator import Simulator

    simulator = Simulator(SimulationConfig.create_from_cli_args())
    begun = time.process_time()
    simulator.run()
    print("RESULT " + json.dumps({"cpu_seconds": time.process_time() - begun}))


if __name__ == "__main__":
    main()
