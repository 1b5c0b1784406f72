// A program in a pod: the SDK for JavaScript finds its credentials and says whose they are.
const { GetCallerIdentityCommand, STSClient } = require("@aws-sdk/client-sts");

new STSClient().send(new GetCallerIdentityCommand()).then(({ Arn }) => console.log(Arn));
