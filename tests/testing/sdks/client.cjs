// Use the local service through the AWS SDK for JavaScript v3, and print what it answers as JSON.
// Arguments: the endpoint, the protocol (json or cbor) and a time between the two jobs' starts.
"use strict";

const {
  ComprehendMedicalClient,
  DescribePHIDetectionJobCommand,
  DetectPHICommand,
  ListPHIDetectionJobsCommand,
  StartPHIDetectionJobCommand,
  StopPHIDetectionJobCommand,
} = require("@aws-sdk/client-comprehendmedical");

async function main(endpoint, protocol, between) {
  const client = new ComprehendMedicalClient({
    endpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "testing", secretAccessKey: "testing" },
    ...(protocol === "cbor" && {
      protocol: require("@aws-sdk/core/protocols").AwsSmithyRpcV2CborProtocol,
    }),
  });
  const start = {
    InputDataConfig: { S3Bucket: "bucket", S3Key: "notes" },
    OutputDataConfig: { S3Bucket: "bucket", S3Key: "results" },
    DataAccessRoleArn: "arn:aws:iam::123456789012:role/reads-notes",
    LanguageCode: "en",
  };
  const named = { ...start, JobName: "nightly", ClientRequestToken: "token" };
  const first = await client.send(new StartPHIDetectionJobCommand(named));
  const again = await client.send(new StartPHIDetectionJobCommand(named));
  const second = await client.send(new StartPHIDetectionJobCommand(start));
  const described = await client.send(new DescribePHIDetectionJobCommand({ JobId: first.JobId }));
  const properties = described.ComprehendMedicalAsyncJobProperties;
  const before = { SubmitTimeBefore: new Date(between) };
  const listed = await client.send(new ListPHIDetectionJobsCommand({ Filter: before }));
  const stopped = await client.send(new StopPHIDetectionJobCommand({ JobId: second.JobId }));
  const text = "Zo\u00eb \u{1f642} is Patient: Ada Example";
  const detected = await client.send(new DetectPHICommand({ Text: text }));
  const unknown = new DescribePHIDetectionJobCommand({ JobId: "0".repeat(32) });
  const missing = await client.send(unknown).catch((error) => error);
  const invalid = new StartPHIDetectionJobCommand({ ...start, LanguageCode: "de" });
  const refused = await client.send(invalid).catch((error) => error);
  return {
    first: first.JobId,
    again: again.JobId,
    second: second.JobId,
    name: properties.JobName,
    status: properties.JobStatus,
    submitted: properties.SubmitTime.toISOString(),
    listed: listed.ComprehendMedicalAsyncJobPropertiesList.map((job) => job.JobId),
    stopped: stopped.JobId,
    detected: detected.Entities.map((each) => [
      each.Type,
      each.BeginOffset,
      each.EndOffset,
      each.Text,
    ]),
    missing: missing.name,
    refused: refused.name,
  };
}

main(...process.argv.slice(2)).then((seen) => console.log(JSON.stringify(seen)));
