"""What users run as their MindSpore Federated server, with its import line changed.

python federated_script.py MS_SERVER fl.yaml 127.0.0.1:6668
python federated_script.py MS_SCHED fl.yaml 127.0.0.1:11202
"""

import logging
import sys

import numpy as np

from mindfl.compat.mindspore_federated import Callback, FeatureMap, FlSchedulerJob, FLServerJob, SSLConfig


class Report(Callback):
    def after_started(self):
        print("started", flush=True)

    def before_stopped(self):
        print("stopped", flush=True)

    def on_iteration_end(self, context):
        model = {name: item.data.tolist() for name, item in context.feature_map.feature_map().items()}
        print("iteration", context.iteration_num, context.iteration_valid, context.instance_name, model, flush=True)
        print("checkpoint", context.checkpoint_file, context.fl_name, context.iteration_result, flush=True)
        raise RuntimeError("the script's own fault")


def main(role, yaml_config, address):
    ssl_config = SSLConfig(server_password="server_password_12345", client_password="client_password_12345")
    if role == "MS_SCHED":
        FlSchedulerJob(yaml_config=yaml_config, manage_address=address, ssl_config=ssl_config).run()
        return
    features = FeatureMap()
    features.add_feature("fc.weight", np.random.default_rng().normal(size=(2, 3)).astype(np.float32))
    features.add_feature("fc.bias", np.zeros(2, np.float32))
    features.add_feature("bn.moving_mean", np.array(0.5, np.float32), require_aggr=False)
    job = FLServerJob(yaml_config, http_server_address=address, checkpoint_dir="./fl_ckpt/", ssl_config=ssl_config)
    job.run(features, callback=Report())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    main(*sys.argv[1:])
