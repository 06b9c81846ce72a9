"""The operators a MindSpore Lite file may hold, and how their attributes lie in the file.

Every operator of MindSpore Lite's public schema (``schema/ops.fbs``) is decoded under its name, whether the runtime
executes it or not; a tag that the schema does not have is decoded as ``operator#<tag>``. Absent attributes have the
schema's defaults. :data:`OPERATOR_TABLE` holds the operators that the runtime does not execute (those that it does are
in :mod:`mindfl.lite.ops`): tag, name, and attributes in slot order.

An attribute is ``name:kind`` or ``name:kind=default``. Kinds: ``?`` bool, ``b`` int8, ``i`` int32, ``q`` int64,
``f`` float32, ``q[]`` a vector of int64, ``*`` anything that is not decoded. A default that is not written is 0, but
for ``gradient_scale``: MindSpore Lite's kernel does not read it, so an absent one must not mean 0. Tags from 214 on are
those of MindSpore Lite 2.1 and later; 2.0 has 214 ScatterElements, 215 Triu, 216 Tril.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mindfl.lite.ops import EXECUTED
from mindfl.lite.ops.conv import CONV_ROW, TRANSPOSED_ROW
from mindfl.lite.ops.lstm import LSTM_ROW
from mindfl.protocol.flatbuf import Table

OPERATOR_TABLE: Final = f"""
6 AdderFusion {CONV_ROW.replace("mode:q ", "")}
9 All keep_dims:q
13 Assert summarize:q
15 AssignAdd
16 AudioSpectrogram window_size:q stride:q mag_square:?
21 BatchToSpace block_size:q[] crops:*
22 BatchToSpaceND block_shape:q[] crops:*
32 Attention head_num:q head_size:q cross:?
36 Conv2dTransposeFusion {TRANSPOSED_ROW} output_paddings:q[]
38 ConstantOfShape data_type:q value:*
39 Crop axis:q offsets:q[]
40 CustomExtractFeatures
41 CustomNormalize
42 CustomPredict output_num:q weight_threshold:f
43 DeConv2DGradFilter in_channel:q out_channel:q kernel_size:q[] pad_mode:b pad_list:q[] stride:q[] dilation:q[] group:q
45 DepthToSpace block_size:q format:i mode:*
46 DetectionPostProcess format:i input_size:q scale:* nms_iou_threshold:f nms_score_threshold:f max_detections:q
51 Elu alpha:f
52 Eltwise mode:b
54 EmbeddingLookupFusion max_norm:f
57 FakeQuantWithMinMaxVars num_bits:q narrow_range:?
58 FakeQuantWithMinMaxVarsPerChannel num_bits:q narrow_range:?
59 FftReal
60 FftImag
64 FloorDiv
65 FloorMod
67 FullConnection has_bias:? use_axis:? axis:q activation:b
70 GatherNd
73 HashtableLookup
74 InstanceNorm epsilon:f
76 LeakyRelu negative_slope:f
84 LpNormalization axis:q p:q
85 LRN depth_radius:q bias:f alpha:f beta:f norm_region:*
86 LshProjection type:b
88 L2NormalizeFusion axis:q[] epsilon:f activation:b
94 SwitchLayer
95 Mfcc freq_upper_limit:f freq_lower_limit:f filter_bank_channel_num:q dct_coeff_num:q
98 Mod
104 NonMaxSuppression center_point_box:q
108 PartialFusion sub_graph_index:q
111 PriorBox
112 PReLUFusion channel_shared:?
113 QuantDTypeCast src_t:q dst_t:q axis:q
114 Rank
115 Range d_type:q start:q limit:q delta:q=1
120 Resize
121 ReverseSequence seq_dim:q batch_dim:q
122 ReverseV2 axis:q[]
123 Rfft fft_length:q
124 ROIPooling pooled_h:q pooled_w:q scale:f
127 ScaleFusion axis:q activation:b
128 ScatterNd
134 SkipGram include_all_grams:? max_skip_size:q ngram_size:q
140 SpaceToBatch block_size:q[] paddings:*
141 SpaceToBatchND block_shape:q[] paddings:*
142 SpaceToDepth block_size:q format:i
144 SparseToDense
154 Switch
155 TensorListFromTensor element_dtype:q shape_type:q
156 TensorListGetItem element_dtype:q
157 TensorListReserve element_dtype:q shape_type:q
158 TensorListSetItem element_dtype:q
159 TensorListStack num_elements:q element_dtype:q
161 TopKFusion sorted:?=1 axis:q largest:q
163 Unique
168 Where
171 ScatterNdUpdate
172 GRU bidirectional:?
173 NonZero
174 InvertPermutation
175 Size
176 RandomStandardNormal seed:q seed2:q
177 CropAndResize method:b extrapolation_value:f
181 LinSpace
182 UniformReal seed:q seed2:q
187 ResizeGrad method:b align_corners:?
188 Splice context:q[] forward_indexes:q[] output_dim:q
190 Call is_tail_call:?=1
191 Custom
192 CumSum exclusive:? reverse:?
193 SplitWithOverlap split_dim:q number_split:q ratio:q[] extend_top:q[] extend_bottom:q[]
194 GenOP
195 RaggedRange
196 GLU axis:q=-1
197 TensorArray
198 TensorArrayRead
199 TensorArrayWrite
200 Affine context:q[] output_dim:q activation:b transpose_a:? transpose_b:?
201 AllGather
202 ReduceScatter
203 DynamicQuant symmetric:? dst_type:q=32
204 LSTMGradData {LSTM_ROW}
205 LSTMGradWeight {LSTM_ROW}
206 RandomNormal seed:f mean:f scale:f
209 FormatTranspose src_format:i=1 dst_format:i=1
210 GatherD
211 GroupNormFusion num_groups:q epsilon:f=1e-5 affine:?=1
213 TensorScatterAdd
214 SparseFillEmptyRows
215 SparseReshape
216 SparseSegmentSum
217 ScatterElements axis:q
218 Triu
219 Tril
"""


#: value of an attribute
AttributeValue = int | float | bool | tuple[int, ...]

_NOT_DECODED = "*"


@dataclass(frozen=True)
class Attribute:
    """One attribute: its slot, name, and kind (a struct code, or ``q[]`` for a vector of int64)."""

    slot: int
    name: str
    kind: str
    default: float = 0

    def read(self, table: Table | None) -> AttributeValue:
        """Return the value in an operator's table, or the default if the value or the table is absent."""
        if self.kind == "q[]":
            vector = table.array(self.slot, "<i8") if table is not None else None
            return () if vector is None else tuple(int(item) for item in vector)
        default = self.default if self.kind == "f" else bool(self.default) if self.kind == "?" else int(self.default)
        return default if table is None else table.scalar(self.slot, self.kind, default)


@dataclass(frozen=True)
class SchemaOperator:
    """One operator: its union tag, its name, its attributes, and the fewest inputs and outputs a node may have."""

    tag: int
    name: str
    attributes: tuple[Attribute, ...] = ()
    inputs: int = 0
    outputs: int = 0

    def read(self, table: Table | None) -> Mapping[str, AttributeValue]:
        """Return all attributes of one node."""
        return MappingProxyType({item.name: item.read(table) for item in self.attributes})


def _operator(line: str) -> SchemaOperator:
    tag, name, *attributes = line.split()
    known = EXECUTED.get(name)
    least = (known.inputs, known.outputs) if known is not None else (0, 0)
    return SchemaOperator(int(tag), name, tuple(_attributes(attributes)), *least)


def _attributes(texts: list[str]) -> list[Attribute]:
    found = []
    for slot, text in enumerate(texts):
        name, _, rest = text.partition(":")
        kind, _, default = rest.partition("=")
        if kind != _NOT_DECODED:
            found.append(Attribute(slot, name, kind, float(default or 0)))
    return found


#: union tag -> operator
OPERATORS: Mapping[int, SchemaOperator] = MappingProxyType(
    {
        operator.tag: operator
        for operator in map(
            _operator, [*OPERATOR_TABLE.strip().splitlines(), *(known.row for known in EXECUTED.values())]
        )
    }
)
