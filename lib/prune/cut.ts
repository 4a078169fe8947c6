/** Where a graph is cut: the last tensor through which everything of the patches goes, before they look at each other. */
import { unsupported } from '../errors.js';
import { tokensOf } from './axes.js';
import type { Findings } from './call.js';
import { isTokenTable, refusal, type Scope } from './flow.js';
import { called, readsOf, type Entry, type Graph } from './graph.js';

export interface Cut {
  /** The tensor that holds fewer tokens from here on. */
  tensor: string;
  /** What it is taken from: itself, or the patches that the model drew some of. */
  source: string;
  /** The node that computes it. */
  entry: Entry;
  /** The index by which the model drew patches itself. */
  drawnBy?: string | undefined;
}

/** Their outputs tell how many tokens there are, and nothing of what is in them. */
const counts = new Set(['Shape', 'Size']);

export function findCut(
  graph: Graph,
  scope: Scope,
  findings: Findings,
  mixing: ReadonlySet<Entry>,
): Cut {
  const { projections, draw, notProjection } = findings;
  if (projections.length > 1) {
    throw unsupported(
      `The model has several patch projections (${projections.join(', ')}); only models with one can be cut.`,
    );
  }
  const hasTokens = (name: string): boolean =>
    scope.get(name)?.axes?.some((axis) => tokensOf(axis) !== undefined) === true;
  const left = new Map<string, number>();
  const counted = (names: readonly string[], by: number): void => {
    for (const name of names) left.set(name, (left.get(name) ?? 0) + by);
  };
  for (const { node } of graph.entries) if (!counts.has(node.op_type)) counted(readsOf(node), 1);
  counted(graph.outputs, 1);
  const ofPatches = new Set<string>();
  let best: Cut | undefined;
  let stoppedAt: Entry | undefined;
  for (const entry of graph.entries) {
    const { node } = entry;
    const reads = readsOf(node);
    if (counts.has(node.op_type)) continue;
    counted(reads, -1);
    const concerned =
      reads.some((name) => ofPatches.has(name)) ||
      node.output.some((name) => projections.includes(name) || hasTokens(name));
    if (!concerned) continue;
    for (const name of node.output) ofPatches.add(name);
    const alive = [...ofPatches].filter((name) => (left.get(name) ?? 0) > 0);
    if (draw !== undefined && node.output[0] === draw.output) {
      if (
        alive.join() !== draw.output ||
        !isTokenTable(scope.get(draw.output)?.axes, batchOf(scope, draw.output, findings))
      ) {
        throw refusal(node, 'it draws patches, and others than the drawn ones are used too');
      }
      return { tensor: draw.output, source: draw.source, entry, drawnBy: draw.indices };
    }
    if (mixing.has(entry)) {
      stoppedAt = entry;
      break;
    }
    const [only] = alive;
    if (alive.length === 1 && only !== undefined && node.output.includes(only)) {
      if (isTokenTable(scope.get(only)?.axes, batchOf(scope, only, findings))) {
        best = { tensor: only, source: only, entry };
      }
    }
  }
  if (best !== undefined) return best;
  if (stoppedAt !== undefined) {
    throw refusal(
      stoppedAt.node,
      'patches are mixed there, and before it no single tensor [images, tokens, width] holds all of them',
    );
  }
  const projection = graph.entries.find(({ node }) =>
    node.output.some((name) => projections.includes(name)),
  );
  throw unsupported(
    projection === undefined
      ? `The model has no patch projection: no convolution of a picture whose windows lie side by side${notProjection === undefined ? '' : ` (there is one, but ${notProjection})`}, and no product with patches cut out of it.`
      : `The patches of ${called(projection.node)} never become tokens in raster order, [images, tokens, width], so there is nowhere to cut.`,
  );
}

/** The axis that counts images: that of the convolution, or of the input whose sides are cut into patches. */
export function batchOf(scope: Scope, tensor: string, findings: Findings): string | undefined {
  if (findings.batch !== undefined) return findings.batch;
  const id = scope.get(tensor)?.axes?.[0]?.[0]?.id;
  return id?.startsWith('input:0:') === true ? id : undefined;
}
