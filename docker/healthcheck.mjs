// Whether the process of this container does its work: gw serve has a port, and gw worker and gw cdc
// have that of GW_METRICS_PORT.
import process from 'node:process';

const { GW_METRICS_PORT, GW_PORT } = process.env;
const url = `http://127.0.0.1:${GW_METRICS_PORT || GW_PORT || 5678}/readyz`;
fetch(url).then(
  ({ ok }) => process.exit(ok ? 0 : 1),
  () => process.exit(1),
);
