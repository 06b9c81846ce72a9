"""The lines of a client's log: those of MindSpore Federated 0.1.0's Java client, in its order.

:data:`EVENTS` holds, by name, the lines that are written together. Texts are templates as of ``str.format``, which
:class:`mindfl.client.log.JobLog` fills in. Lines about things that this client does not do (paths it does not check,
HTTP, message lengths) are left out. Where the published tutorial and the real client differ, the line satisfies the
tutorial's own grep command. No line holds a secret: of keys and shares only the number is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PREFIX = "<FLClient> "


class LogLine(NamedTuple):
    """Class and method of the reference that logs; a template; level; how the text starts."""

    source: str
    text: str
    level: str
    prefix: str


# Class and method, then the text; a row without the former has those of the row above. INFO unless another level is
# named. {rule:.36} is 36 times "=", {stars:.14} 14 times "*".
_TABLE = """
# a task and the model file
@ task_started
SyncFLJob createDatasetMap | {train_data}
| {eval_data}
| {infer_data}
SyncFLJob createWeightNameList | the trainWeightName is null or empty
| the inferWeightName is null or empty
SyncFLJob <init> | the flName: {config.fl_name}
SyncFLJob task | start syncFLJob.{task}()
@ backed_up
model.Client backupModelFile | Backup model file:{config.model_file} to :{job.backup}
@ restored
SEVERE: model.Client restoreModelFile | Delete the origin file:{job.model_file.name}
model.Client restoreModelFile | Restore model file:{job.model_file.name} from :{job.backup.name}
@ inference_started
SyncFLJob modelInfer | {rule:.11}model inference{rule:.13}
@ inferred
SyncFLJob modelInfer | [model inference] the predicted labels: {labels}
| [model inference] inference finish
@ test_data
demo.lenet.LenetDataSet padding | total samples:{trainer.eval_size}
| total batchNum:{job.eval_batches}
@ run_time
model.ModelProxy runModel | total run time:{milliseconds}ms
# a job that goes well
@ job_started
SyncFLJob flJobRun | recovery StopJobFlag to false in the start of fl job
| flJobRun start
@ iteration_started
SyncFLJob flRunLoop | flName: {config.fl_name}
FLLiteClient initDataSets | ==========set input{rule:.11}
FLLiteClient startFLJob | [startFLJob] {rule:.36}Verify server{rule:.36}
StartFLJob$RequestStartFLJobBuilder trainDataSize | [startFLJob] the train data size: {trainer.train_size}
StartFLJob$RequestStartFLJobBuilder evaDataSize | [startFLJob] the evaluate data size: {trainer.eval_size}
@ start_response
StartFLJob doResponse | [startFLJob] ==========the response message of startFLJob is:{rule:.16}
| [startFLJob] return retCode: {response.retcode:d}
| [startFLJob] reason: {response.reason}
| [startFLJob] iteration: {response.iteration}
| [startFLJob] is selected: {selected}
| [startFLJob] next request time: {response.next_req_time}
| [startFLJob] timestamp: {timestamp}
@ start_accepted
StartFLJob doResponse | [startFLJob] into <parseResponseFeatures>
StartFLJob parseResponseFeatures | [startFLJob] parseResponseFeatures for train model
StartFLJob getUpdateFeatureForFederated | [getUpdateFeatureForFederated] set <batch size> for client: \
{plan.mini_batch}
FLLiteClient judgeStartFLJob | [startFLJob] startFLJob success
| [startFLJob] ***the feature size get in ResponseFLJob***: {values}
FLLiteClient setGlobalParameters | [startFLJob] [compression] uploadCompressType: {response.upload_compress_type:d}
| [startFLJob] [compression] uploadSparseRate: {sparse_rate}
| [startFLJob] [compression] seed: {response.iteration}
| [startFLJob] the GlobalParameter <serverMod> from server: {plan.server_mode}
| [startFLJob] the GlobalParameter <iterations> from server: {plan.iterations}
| [startFLJob] the GlobalParameter <epochs> from server: {plan.epochs}
| [startFLJob] the GlobalParameter <batchSize> from server: {plan.mini_batch}
@ started
SyncFLJob flRunLoop | [startFLJob] startFLJob succeed, curIteration: {response.iteration}
@ evaluation_started
FLLiteClient evaluateModel | {rule:.35}evaluate model after getting model from server{rule:.35}
FLLiteClient evaluateLoop | [evaluate] evaluateModel by FEDERATED_LEARNING
| [evaluate] modelPath: /AnonymousPath/{job.model_file.name}
@ accuracy
demo.common.ClassifierAccuracyCallback epochEnd | average accuracy:{job.eval_batches},acc is:{accuracy}
@ evaluated
FLLiteClient evaluateLoop | [evaluate] evaluate acc: {accuracy}
SyncFLJob flRunLoop | [evaluate] evaluate succeed
# the reference says this twice
@ not_evaluated
SyncFLJob checkEvalPath | [evaluate] the data map set by user do not contain evaluation dataset, don't evaluate the \
model after getting model from server
SyncFLJob flRunLoop | [evaluate] the data map set by user do not contain evaluation dataset, don't evaluate the \
model after getting model from server
@ training_started
FLLiteClient localTrain | [train] {rule:.36}global train epoch {iteration}{rule:.36}
FLLiteClient trainLoop | [train] train in {config.fl_name}
| [train] lr for client is: {learning_rate}
demo.lenet.LenetDataSet padding | total samples:{trainer.train_size}
| total batchNum:{job.train_batches}
@ epoch
model.LossCallback epochEnd | ----------epoch:{number},average loss:{loss}----------
@ training_succeeded
SyncFLJob flRunLoop | [train] train succeed
@ update_response
UpdateModel doResponse | [updateModel] ==========the response message of updateModel is{rule:.16}
| [updateModel] ==========retCode: {response.retcode:d}
| [updateModel] ==========reason: {response.reason}
| [updateModel] ==========next request time: {response.next_req_time}
@ update_accepted
UpdateModel doResponse | [updateModel] updateModel success
@ update_answered
FLLiteClient updateModel | [updateModel] get response from server ok!
@ model_response
FLLiteClient getModel | [getModel] get model request success
GetModel doResponse | [getModel] ==========the response message of getModel is:{rule:.16}
| [getModel] ==========retCode: {response.retcode:d}
| [getModel] ==========reason: {response.reason}
| [getModel] ==========iteration: {response.iteration}
| [getModel] ==========time: {response.timestamp}
@ model_received
GetModel doResponse | [getModel] into <parseResponseFeatures>
GetModel FeatureGeneratorCtr | [FeatureGeneratorCtr] Compress type:{response.download_compress_type:d}
@ model_not_ready
GetModel doResponse | [getModel] server is not ready now: need wait and request getModel again
@ model_answered
FLLiteClient getModel | [getModel] get response from server ok!
@ iteration_ended
SyncFLJob flRunLoop | {rule:.56}the total response of {iteration}: SUCCESS{rule:.70}
@ iteration_result
FLJobResultCallback onFlJobIterationFinished | [onFlJobIterationFinished] modelName: {config.fl_name} iterationSeq: \
{iteration} resultCode: {code:d}
@ job_ended
SyncFLJob flJobRun | flJobRun finish
FLJobResultCallback onFlJobFinished | [onFlJobFinished] modelName: {config.fl_name} iterationCount: {iterations} \
resultCode: {code:d}
# failures
@ no_answer
SEVERE: FLLiteClient failed | [{stage}] unsolved error code{where}: catch IOException: {reason}
@ sending_again
WARNING: FLLiteClient {stage} | [{stage}] {reason}: request again in {milliseconds} ms
@ server_not_ready
Common isSeverReady | [isSeverReady] {text}, need wait some time and request again
| [isSeverReady] the server does not return the current iteration.
FLLiteClient {stage} | [{stage}] the server is not ready now, need wait some time and request again
@ server_finished
Common isSeverJobFinished | [isSeverJobFinished] {text}, will stop the task and exist
FLLiteClient serverJobFinished | [{stage}] {text} will stop the task and exist.
@ waiting
SyncFLJob resetContext | [{stage}] out of time: need wait and request startFLJob again
Common getWaitTime | [getWaitTime] waitTime: {milliseconds}
@ too_many_restarts
SEVERE: SyncFLJob tryTimeExceedsLimit | [tryTimeExceedsLimit] the repeated request time exceeds the limit, current \
repeated request time is: {count} the limited time is: {limit}
@ waited_too_long
SEVERE: SyncFLJob waitTryTimeExceedsLimit | [waitTryTimeExceedsLimit] the waitTryTime exceeds the limit, current \
waitTryTime is: {count} the limited time is: {limit}
@ training_failed
SEVERE: FLLiteClient failed | [train] train failed, train loss is:{loss}
# the reference does not notice this
@ nothing_aggregated
WARNING: GetModel doResponse | [getModel] iteration {iteration} aggregated nothing: its model is the one it began with
@ failed
SyncFLJob failed | [{stage}] {what}
| {rule:.41}the total response of {iteration}: FAILED{rule:.41}
# secure aggregation; the reference forgets to say how the exchanges of keys and of shares went
@ keys_started
FLLiteClient getFeatureMask | [Encrypt] creating feature mask of <{mode}>
SecureProtocol pwCreateMask | [PairWiseMask] {rule:.14}request flID: {config.fl_id} {rule:.14}
CipherClient exchangeKeys | [PairWiseMask] {rule:.20} round0: RequestExchangeKeys+GetExchangeKeys {rule:.22}
CipherClient requestExchangeKeys | [PairWiseMask] {rule:.14}request flID: {config.fl_id}{rule:.14}
@ keys_ended
SecureProtocol pwCreateMask | [PairWiseMask] {rule:.13} RequestExchangeKeys+GetExchangeKeys response: {rule:.12} {end}
@ shares_started
CipherClient shareSecrets | [PairWiseMask] {rule:.20} round1: RequestShareSecrets+GetShareSecrets {rule:.22}
CipherClient encryptShares | [PairWiseMask] {stars:.14} generate encrypt share secrets for RequestShareSecrets \
{stars:.14}
@ shares_ended
SecureProtocol pwCreateMask | [Encrypt] {rule:.13}RequestShareSecrets+GetShareSecrets response: {rule:.13} {end}
@ mask_ready
SecureProtocol pwCreateMask | [Encrypt] {rule:.13}Create double feature mask: SUCCESS{rule:.13}
FLLiteClient getFeatureMask | [Encrypt] the response of create mask for <{mode}> : SUCCESS
@ reveal_started
CipherClient reconstructSecrets | [PairWiseMask] {rule:.19} round3: GetClientList+SendReconstructSecret {rule:.24}
@ reveal_ended
SecureProtocol pwUnmasking | [Encrypt] {rule:.13}GetClientList+SendReconstructSecret: SUCCESS {rule:.13}
FLLiteClient unMasking | [Encrypt] the response of unmasking : SUCCESS
@ reveal_not_needed
CipherClient reconstructSecrets | [PairWiseMask] [{stage}] not needed any more: the iteration is over
@ distrusted
SEVERE: SecureProtocol failed | [Encrypt] [{stage}] iteration {iteration} goes on without this client: {fault}
@ secagg_answer
{source} | [PairWiseMask] {stars:.14}{heading}{stars:.14}
| [PairWiseMask] return code: {response.retcode:d}
@ secagg_reason
{source} | [PairWiseMask] reason: {response.reason}
@ secagg_times
{source} | [PairWiseMask] current iteration in server: {response.iteration}
| [PairWiseMask] next request time: {response.next_req_time}
@ secagg_count
{source} | [PairWiseMask] the size of {counted}: {count}
@ secagg_success
{source} | [PairWiseMask] {name} success
@ secagg_not_ready
{source} | [PairWiseMask] server is not ready now, need wait and request {name} again!
"""


def _events(table: str) -> dict[str, tuple[LogLine, ...]]:
    rows = "\n".join(row for row in table.splitlines() if not row.startswith("#"))
    blocks = (block.strip().split("\n") for block in rows.split("@ ")[1:])
    return {name: tuple(_lines(lines)) for name, *lines in blocks}


def _lines(rows: list[str]) -> Iterator[LogLine]:
    source, level = "", "INFO"
    for row in rows:
        head, _, text = row.partition("| ")
        if head:
            *levels, source = head.strip().split(": ")
            level = levels[0] if levels else "INFO"
        yield LogLine(source, text, level, "" if source.startswith("demo.") else PREFIX)


EVENTS = _events(_TABLE)
