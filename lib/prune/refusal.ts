/** Why a graph cannot be cut; whoever knows the node puts its name in front. */
export class Refusal extends Error {}
