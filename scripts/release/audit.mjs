/** `npm audit --json`, judged: nothing high or critical in what users get. */

/** @throws {Error} when the registry did not answer the question. */
export function judgeAudit(text) {
  let report;
  try {
    report = JSON.parse(text);
  } catch {
    throw new Error('npm audit said nothing that can be read');
  }
  const counts = report.metadata?.vulnerabilities;
  if (counts === undefined) {
    throw new Error(
      `the registry did not answer: ${report.message ?? report.error?.summary ?? '?'}`,
    );
  }
  const named = Object.values(report.vulnerabilities ?? {})
    .filter(({ severity }) => severity === 'high' || severity === 'critical')
    .map(({ name, severity }) => `${name} (${severity})`);
  const bad = counts.high + counts.critical;
  return {
    summary: `${counts.total} findings, ${bad} of them high or critical`,
    problems: bad > 0 ? [named.join(', ') || `${bad} findings`] : [],
  };
}
