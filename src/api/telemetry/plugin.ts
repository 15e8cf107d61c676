import type { IncomingMessage } from 'node:http';
import type { ExecutionConfig } from 'postgraphile/grafserv';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { inSpan } from '../../tracing.ts';
import { describeOperation } from './names.ts';
import type { Telemetry } from './telemetry.ts';

/** Tells telemetry which operation a request runs, and why a document was refused. */
export const telemetryPlugin = (telemetry: Telemetry): GraphileConfig.Plugin => ({
  name: 'TelemetryPlugin',
  version: '1.0.0',
  after: ['DocumentPlugin'],
  grafast: {
    middleware: {
      execute(next, { args }) {
        const request = args.requestContext?.node?.req as IncomingMessage | undefined;
        const info = request === undefined ? undefined : telemetry.infoOf(request);
        if (info !== undefined) {
          const operation = describeOperation(args.document, args.operationName);
          if (operation !== undefined) info.operation = operation;
        }
        return inSpan('graphql execute', {}, next);
      },
      establishOperationPlan: (next) => inSpan('graphql plan', {}, next),
    },
  },
  grafserv: {
    middleware: {
      setPreset(next, event) {
        const { getExecutionConfig } = event;
        const counted = (config: ExecutionConfig): ExecutionConfig => ({
          ...config,
          parseAndValidate(query) {
            const result = config.parseAndValidate(query);
            if (result.errors === undefined) return result;
            for (const { extensions } of result.errors) {
              telemetry.addError(String(extensions.code ?? 'GRAPHQL_VALIDATION_FAILED'));
            }
            return result;
          },
        });
        event.getExecutionConfig = function getCounted(context) {
          const config = getExecutionConfig.call(this, context);
          return 'then' in config ? config.then(counted) : counted(config);
        };
        return next();
      },
    },
  },
});
