/** Which rule an operator has. One without a rule must not meet patches. */
import type { Call, Known } from '../call.js';
import * as parts from './parts.js';
import * as pointwise from './pointwise.js';
import * as products from './products.js';
import * as shape from './shape.js';

type Rule = (call: Call) => Known[];

const rules = new Map<string, Rule>([
  ...[...pointwise.unary].map((name): [string, Rule] => [name, pointwise.unaryRule]),
  ...[...pointwise.binary].map((name): [string, Rule] => [name, pointwise.binaryRule]),
  ...Object.keys(products.products).map((name): [string, Rule] => [name, products.productRule]),
  ...'L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare'
    .split(' ')
    .map((name): [string, Rule] => [`Reduce${name}`, pointwise.reduceRule]),
  ...[
    'LayerNormalization',
    'RMSNormalization',
    'SimplifiedLayerNormalization',
    'SkipLayerNormalization',
    'SkipSimplifiedLayerNormalization',
  ].map((name): [string, Rule] => [name, pointwise.normalisationRule]),
  ['Softmax', pointwise.softmaxRule],
  ['LogSoftmax', pointwise.softmaxRule],
  ['GlobalAveragePool', pointwise.globalPoolRule],
  ['GlobalMaxPool', pointwise.globalPoolRule],
  ['QuantizeLinear', pointwise.quantiseRule],
  ['DequantizeLinear', pointwise.quantiseRule],
  ['DynamicQuantizeLinear', pointwise.dynamicQuantiseRule],
  ['Gemm', products.gemmRule],
  ['MatMulNBits', products.packedProductRule],
  ['QAttention', products.fusedAttentionRule],
  ['MultiHeadAttention', products.attentionRule],
  ['Conv', products.convolutionRule],
  ['ConvInteger', products.convolutionRule],
  ['QLinearConv', products.convolutionRule],
  ['Concat', parts.concatRule],
  ['Slice', parts.sliceRule],
  ['Split', parts.splitRule],
  ['Gather', parts.gatherRule],
  ['GatherElements', parts.gatherElementsRule],
  ['Shape', shape.shapeRule],
  ['Size', shape.sizeRule],
  ['Reshape', shape.reshapeRule],
  ['Flatten', shape.flattenRule],
  ['Transpose', shape.transposeRule],
  ['Squeeze', shape.squeezeRule],
  ['Unsqueeze', shape.unsqueezeRule],
  ['Expand', shape.expandRule],
  ['ConstantOfShape', shape.constantOfShapeRule],
  ['Range', shape.rangeRule],
  ['Tile', shape.tileRule],
  ['Pad', shape.padRule],
  ['RandomUniformLike', shape.randomRule],
  ['RandomNormalLike', shape.randomRule],
  ['GatherND', shape.gatherNdRule],
  ['TopK', shape.topRule],
  ['ScatterND', shape.scatterRule],
  ['ScatterElements', shape.scatterRule],
  ['Resize', shape.resizeRule],
]);

/** Domains whose operators the rules know by name. */
const domains = new Set(['', 'ai.onnx', 'com.microsoft']);

export function ruleFor({ op_type, domain }: { op_type: string; domain: string }): Rule {
  if (!domains.has(domain)) return unknown;
  if (op_type === 'Attention') {
    return domain === 'com.microsoft' ? products.fusedAttentionRule : products.attentionRule;
  }
  return rules.get(op_type) ?? unknown;
}

function unknown(call: Call): Known[] {
  return shape.untouched(call, 'ltrp has no rule for this operator');
}
