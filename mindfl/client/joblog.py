"""What a device client writes into its log: the lines of MindSpore Federated 0.1.0's Java client, in its order.

Lines about things that this client does not do (paths it does not check, HTTP, message lengths) are left out. Where
the published tutorial and the real client differ, the line satisfies the tutorial's own grep command.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath

from mindfl.client.config import ClientConfig
from mindfl.client.javatext import java_float
from mindfl.client.log import ClientLog
from mindfl.client.masklog import MaskLog
from mindfl.client.privacylog import PrivacyLog
from mindfl.client.trainer import Trainer
from mindfl.protocol import FLPlan, ResponseCode, ResponseFLJob, ResponseGetModel, ResponseUpdateModel

_NO_TRAIN_DATA = "the trainDataPath is null or empty, please check if you are in the case of only inference"
_NO_EVAL_DATA = (
    "the evalDataPath is null or empty, please check if you are in the case of only training without evaluation"
)
_NO_INFER_DATA = "the inferDataPath is null or empty, please check if you are in the case of training without inference"
_NOT_EVALUATED = (
    "[evaluate] the data map set by user do not contain evaluation dataset, don't evaluate the model after getting "
    "model from server"
)


# How the reference names the place where no answer came.
_NO_ANSWER = {"startFLJob": " in StartFLJob", "updateModel": " in updateModel"}


def _backup(path: str) -> str:
    return str(PurePath(path).with_name(f"bak_{PurePath(path).name}"))


def _masked(path: str) -> str:
    return f"/AnonymousPath/{PurePath(path).name}"


def _ruled(text: str, width: int, right_width: int | None = None) -> str:
    return f"{'=' * width}{text}{'=' * (right_width or width)}"


class JobLog:
    """Writes the events of one client's flows to ``log``; does nothing where that is None."""

    def __init__(self, log: ClientLog | None, config: ClientConfig, trainer: Trainer) -> None:
        self._log = log
        self._config = config
        self._trainer = trainer
        self.privacy = PrivacyLog(self._say)
        self.masks = MaskLog(self._say)

    def flush(self) -> None:
        """Write what was collected."""
        if self._log:
            self._log.flush()

    def _say(self, source: str, *lines: str, level: str = "INFO") -> None:
        if self._log:
            for line in lines:
                self._log.record(source, line, level=level)

    def _demo(self, source: str, *lines: str) -> None:
        if self._log:
            for line in lines:
                self._log.record(f"demo.{source}", line, prefix="")

    def task_started(self, task: str) -> None:
        """Say which of ``flJobRun``, ``modelInference`` and ``getModel`` begins."""
        config = self._config
        train = config.train_data if task == "flJobRun" else ""
        infer = config.eval_data if task == "modelInference" else ""
        self._say(
            "SyncFLJob createDatasetMap",
            f"the trainDataPath: {_masked(train)}" if train else _NO_TRAIN_DATA,
            f"the evalDataPath: {_masked(config.eval_data)}" if config.eval_data else _NO_EVAL_DATA,
            f"the inferDataPath: {_masked(infer)}" if infer else _NO_INFER_DATA,
        )
        self._say("SyncFLJob createWeightNameList", "the trainWeightName is null or empty")
        self._say("SyncFLJob createWeightNameList", "the inferWeightName is null or empty")
        self._say("SyncFLJob <init>", f"the flName: {config.fl_name}")
        self._say("SyncFLJob task", f"start syncFLJob.{task}()")

    def backed_up(self) -> None:
        """The model file has been copied."""
        name = self._config.model_file
        self._say("model.Client backupModelFile", f"Backup model file:{name} to :{_backup(name)}")

    def restored(self) -> None:
        """The model file is again what it was when the job began."""
        path = PurePath(self._config.model_file)
        source = "model.Client restoreModelFile"
        self._say(source, f"Delete the origin file:{path.name}", level="SEVERE")
        self._say(source, f"Restore model file:{path.name} from :{PurePath(_backup(str(path))).name}")

    def no_answer(self, stage: str, reason: str) -> None:
        """``stage`` got no answer, and it is not tried again."""
        where = _NO_ANSWER.get(stage, "")
        text = f"[{stage}] unsolved error code{where}: catch IOException: {reason}"
        self._say("FLLiteClient failed", text, level="SEVERE")

    def sending_again(self, stage: str, reason: str, milliseconds: int) -> None:
        """``stage`` got no answer and is tried again."""
        self._say(f"FLLiteClient {stage}", f"[{stage}] {reason}: request again in {milliseconds} ms", level="WARNING")

    def server_not_ready(self, stage: str, text: str) -> None:
        """The server cannot answer just now."""
        source = "Common isSeverReady"
        self._say(
            source,
            f"[isSeverReady] {text}, need wait some time and request again",
            "[isSeverReady] the server does not return the current iteration.",
        )
        text = f"[{stage}] the server is not ready now, need wait some time and request again"
        self._say(f"FLLiteClient {stage}", text)

    def too_many_restarts(self, limit: int) -> None:
        """The server sent this client back once more than it accepts."""
        self._say(
            "SyncFLJob tryTimeExceedsLimit",
            "[tryTimeExceedsLimit] the repeated request time exceeds the limit, "
            f"current repeated request time is: {limit + 1} the limited time is: {limit}",
            level="SEVERE",
        )

    def waited_too_long(self, limit: int) -> None:
        """The model did not come in time."""
        self._say(
            "SyncFLJob waitTryTimeExceedsLimit",
            "[waitTryTimeExceedsLimit] the waitTryTime exceeds the limit, "
            f"current waitTryTime is: {limit + 1} the limited time is: {limit}",
            level="SEVERE",
        )

    def job_started(self) -> None:
        """A training job begins."""
        self._say("SyncFLJob flJobRun", "recovery StopJobFlag to false in the start of fl job", "flJobRun start")

    def iteration_started(self) -> None:
        """An iteration begins."""
        self._say("SyncFLJob flRunLoop", f"flName: {self._config.fl_name}")
        self._say("FLLiteClient initDataSets", "==========set input===========")
        self._say("FLLiteClient startFLJob", f"[startFLJob] {_ruled('Verify server', 36)}")
        builder = "StartFLJob$RequestStartFLJobBuilder"
        self._say(f"{builder} trainDataSize", f"[startFLJob] the train data size: {self._trainer.train_size}")
        self._say(f"{builder} evaDataSize", f"[startFLJob] the evaluate data size: {self._trainer.eval_size}")

    def start_response(self, response: ResponseFLJob) -> None:
        """The answer to startFLJob, whatever it is."""
        self._say(
            "StartFLJob doResponse",
            "[startFLJob] ==========the response message of startFLJob is:================",
            f"[startFLJob] return retCode: {response.retcode:d}",
            f"[startFLJob] reason: {response.reason}",
            f"[startFLJob] iteration: {response.iteration}",
            f"[startFLJob] is selected: {str(response.is_selected).lower()}",
            f"[startFLJob] next request time: {response.next_req_time}",
            f"[startFLJob] timestamp: {response.timestamp or 'null'}",
        )

    def start_accepted(self, response: ResponseFLJob, plan: FLPlan, values: int) -> None:
        """The received model of ``values`` numbers is loaded and the plan known."""
        self._say("StartFLJob doResponse", "[startFLJob] into <parseResponseFeatures>")
        self._say("StartFLJob parseResponseFeatures", "[startFLJob] parseResponseFeatures for train model")
        self._say(
            "StartFLJob getUpdateFeatureForFederated",
            f"[getUpdateFeatureForFederated] set <batch size> for client: {plan.mini_batch}",
        )
        self._say(
            "FLLiteClient judgeStartFLJob",
            "[startFLJob] startFLJob success",
            f"[startFLJob] ***the feature size get in ResponseFLJob***: {values}",
        )
        self._say(
            "FLLiteClient setGlobalParameters",
            f"[startFLJob] [compression] uploadCompressType: {response.upload_compress_type:d}",
            f"[startFLJob] [compression] uploadSparseRate: {java_float(response.upload_sparse_rate)}",
            f"[startFLJob] [compression] seed: {response.iteration}",
            f"[startFLJob] the GlobalParameter <serverMod> from server: {plan.server_mode}",
            f"[startFLJob] the GlobalParameter <iterations> from server: {plan.iterations}",
            f"[startFLJob] the GlobalParameter <epochs> from server: {plan.epochs}",
            f"[startFLJob] the GlobalParameter <batchSize> from server: {plan.mini_batch}",
        )
        self.privacy.parameters(plan.cipher)
        self._say("SyncFLJob flRunLoop", f"[startFLJob] startFLJob succeed, curIteration: {response.iteration}")

    def evaluation_started(self) -> None:
        """A model that the server sent is about to be evaluated."""
        heading = _ruled("evaluate model after getting model from server", 35)
        self._say("FLLiteClient evaluateModel", heading)
        model = f"[evaluate] modelPath: {_masked(self._config.model_file)}"
        self._say("FLLiteClient evaluateLoop", "[evaluate] evaluateModel by FEDERATED_LEARNING", model)
        self._data_set(self._trainer.eval_size)

    def evaluated(self, accuracy: float, milliseconds: int) -> None:
        """Its accuracy is known."""
        text = java_float(accuracy)
        batches = math.ceil(self._trainer.eval_size / self._trainer.batch_size)
        self._demo("common.ClassifierAccuracyCallback epochEnd", f"average accuracy:{batches},acc is:{text}")
        self._run_time(milliseconds)
        self._say("FLLiteClient evaluateLoop", f"[evaluate] evaluate acc: {text}")
        self._say("SyncFLJob flRunLoop", "[evaluate] evaluate succeed")

    def not_evaluated(self) -> None:
        """There are no test data. The reference says so twice."""
        self._say("SyncFLJob checkEvalPath", _NOT_EVALUATED)
        self._say("SyncFLJob flRunLoop", _NOT_EVALUATED)

    def training_started(self, iteration: int, learning_rate: float) -> None:
        """Local training begins."""
        heading = _ruled(f"global train epoch {iteration}", 36)
        self._say("FLLiteClient localTrain", f"[train] {heading}")
        self._say(
            "FLLiteClient trainLoop",
            f"[train] train in {self._config.fl_name}",
            f"[train] lr for client is: {java_float(learning_rate)}",
        )
        self._data_set(self._trainer.train_size)

    def epoch(self, number: int, losses: Sequence[float]) -> None:
        """Local epoch ``number`` (from 0) ended with these losses of its batches."""
        if not self._log:
            return
        if not self._log.brief:
            lines = (f"batch:{batch},loss:{java_float(loss)}" for batch, loss in enumerate(losses))
            self._say("model.LossCallback stepEnd", *lines)
        average = sum(losses) / max(len(losses), 1)
        self._say(
            "model.LossCallback epochEnd", f"{'-' * 10}epoch:{number},average loss:{java_float(average)}{'-' * 10}"
        )

    def training_ended(self, milliseconds: int) -> None:
        """Local training ended, well or not."""
        self._run_time(milliseconds)

    def training_succeeded(self) -> None:
        """The loss is a finite number."""
        self._say("SyncFLJob flRunLoop", "[train] train succeed")

    def training_failed(self, loss: float) -> None:
        """The loss is not a finite number."""
        self._say("FLLiteClient failed", f"[train] train failed, train loss is:{java_float(loss)}", level="SEVERE")

    def update_response(self, response: ResponseUpdateModel) -> None:
        """The answer to updateModel, whatever it is."""
        source = "UpdateModel doResponse"
        self._say(
            source,
            "[updateModel] ==========the response message of updateModel is================",
            f"[updateModel] ==========retCode: {response.retcode:d}",
            f"[updateModel] ==========reason: {response.reason}",
            f"[updateModel] ==========next request time: {response.next_req_time}",
        )
        if response.retcode == ResponseCode.SUCCEED:
            self._say(source, "[updateModel] updateModel success")
        self._say("FLLiteClient updateModel", "[updateModel] get response from server ok!")

    def model_response(self, response: ResponseGetModel) -> None:
        """The answer to getModel, whatever it is."""
        source = "GetModel doResponse"
        self._say("FLLiteClient getModel", "[getModel] get model request success")
        self._say(
            source,
            "[getModel] ==========the response message of getModel is:================",
            f"[getModel] ==========retCode: {response.retcode:d}",
            f"[getModel] ==========reason: {response.reason}",
            f"[getModel] ==========iteration: {response.iteration}",
            f"[getModel] ==========time: {response.timestamp}",
        )
        if response.retcode == ResponseCode.SUCCEED:
            self._say(source, "[getModel] into <parseResponseFeatures>")
            compress = f"[FeatureGeneratorCtr] Compress type:{response.download_compress_type:d}"
            self._say("GetModel FeatureGeneratorCtr", compress)
        elif response.retcode == ResponseCode.SUC_NOT_READY:
            self._say(source, "[getModel] server is not ready now: need wait and request getModel again")
        self._say("FLLiteClient getModel", "[getModel] get response from server ok!")

    def iteration_ended(self, iteration: int) -> None:
        """The aggregated model of ``iteration`` has arrived."""
        self._say("SyncFLJob flRunLoop", _ruled(f"the total response of {iteration}: SUCCESS", 56, 70))
        self._iteration_callback(iteration, ResponseCode.SUCCEED)

    def nothing_aggregated(self, iteration: int) -> None:
        """The model of ``iteration`` is the one that it began with; the reference does not notice."""
        text = f"[getModel] iteration {iteration} aggregated nothing: its model is the one it began with"
        self._say("GetModel doResponse", text, level="WARNING")

    def waiting(self, stage: str, iteration: int, milliseconds: int) -> None:
        """``stage`` was told to come back later."""
        self._say("SyncFLJob resetContext", f"[{stage}] out of time: need wait and request startFLJob again")
        self._say("Common getWaitTime", f"[getWaitTime] waitTime: {milliseconds}")
        self._iteration_callback(iteration, ResponseCode.OUT_OF_TIME)

    def server_finished(self, stage: str, text: str) -> None:
        """The server's job is finished or disabled."""
        self._say("Common isSeverJobFinished", f"[isSeverJobFinished] {text}, will stop the task and exist")
        self._say("FLLiteClient serverJobFinished", f"[{stage}] {text} will stop the task and exist.")

    def failed(self, stage: str, iteration: int, code: ResponseCode) -> None:
        """``stage`` failed, and the job with it."""
        what = "failed" if stage == "startFLJob" else f"{stage} failed"
        self._say("SyncFLJob failed", f"[{stage}] {what}", _ruled(f"the total response of {iteration}: FAILED", 41))
        self._iteration_callback(iteration, code)

    def job_ended(self, iterations: int, code: ResponseCode) -> None:
        """The training job is over, one way or another."""
        self._say("SyncFLJob flJobRun", "flJobRun finish")
        self._say(
            "FLJobResultCallback onFlJobFinished",
            f"[onFlJobFinished] modelName: {self._config.fl_name} iterationCount: {iterations} resultCode: {code:d}",
        )

    def inference_started(self) -> None:
        """The test data are about to be labelled."""
        self._say("SyncFLJob modelInfer", "===========model inference=============")
        self._data_set(self._trainer.eval_size)

    def inferred(self, labels: Sequence[int], milliseconds: int) -> None:
        """The predicted labels of the test data, in order."""
        self._run_time(milliseconds)
        self._say(
            "SyncFLJob modelInfer",
            f"[model inference] the predicted labels: [{', '.join(map(str, labels))}]",
            "[model inference] inference finish",
        )

    def _data_set(self, samples: int) -> None:
        source = "lenet.LenetDataSet padding"
        batches = math.ceil(samples / self._trainer.batch_size)
        self._demo(source, f"total samples:{samples}", f"total batchNum:{batches}")

    def _run_time(self, milliseconds: int) -> None:
        self._say("model.ModelProxy runModel", f"total run time:{milliseconds}ms")

    def _iteration_callback(self, iteration: int, code: ResponseCode) -> None:
        self._say(
            "FLJobResultCallback onFlJobIterationFinished",
            f"[onFlJobIterationFinished] modelName: {self._config.fl_name} iterationSeq: {iteration} "
            f"resultCode: {code:d}",
        )
